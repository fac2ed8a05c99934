"""Text from a trained language model: python -m runtime.sample RUN|WEIGHTS [--prompt TEXT] [--tokens N]."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from runtime import seeds
from runtime.command import Parser, run
from runtime.errors import UserError
from runtime.scoring.measure import pick_device
from runtime.storage.trained import Trained, add_arguments, network_of, recipe_of
from runtime.tasks.task import wide
from runtime.text.alphabet import Alphabet, harmless

AT_ONCE = 1024  # tokens of a prompt, so that a long one needs little memory


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.sample", description="Continue a text with a trained language model.")
    add_arguments(parser)
    parser.add_argument("--prompt", default="\n", help="the text to continue; default: a new line")
    parser.add_argument("--tokens", type=int, default=500, help="how many to add; default: 500")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: always the most probable; default: 0.8")
    parser.add_argument("--top-k", type=int, metavar="K", help="choose among the K most probable only")
    parser.add_argument("--seed", type=int, default=0, help="one seed, one text; default: 0")
    options = parser.parse_args(arguments)
    require("--tokens", options.tokens, 1)
    require("--temperature", options.temperature, 0)
    require("--top-k", 1 if options.top_k is None else options.top_k, 1)
    trained = network_of(options.trained, options.weights)
    network = writer(trained)
    recipe = recipe_of(trained, options.recipe)
    alphabet = recipe.data.alphabet()
    if alphabet.size != network.vocabulary:
        raise UserError(f"the recipe's text has {alphabet.size} tokens, the network {network.vocabulary}: see --recipe")
    prompt = prompt_of(options.prompt, alphabet)
    name = trained.compiled.name
    print(f"{trained.path}: {name}, {trained.kind} weights, seed {options.seed}", file=sys.stderr)
    print(options.prompt, end="", flush=True)
    network = network.to(pick_device(recipe.device)).eval()
    generator, decode = seeds.torch_generator(seeds.SAMPLE, options.seed), alphabet.decoder()
    for token in continuation(network, prompt, options.tokens, options.temperature, options.top_k, generator):
        print(harmless(decode(token)), end="", flush=True)
    print()


def require(option: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):
        raise UserError(f"{option} is {value:g} and must be at least {least:g}")


def prompt_of(text: str, alphabet: Alphabet) -> Tensor:
    """Token numbers, (tokens,) with at least one; raises UserError where the text has none or others."""
    try:
        prompt = alphabet.encode(text)
    except UserError as error:
        raise UserError(f"--prompt: {error}") from None
    if not len(prompt):
        raise UserError("--prompt: nothing to continue; leave it out to start from a new line")
    return prompt


def writer(trained: Trained) -> nn.Module:
    """The network that can continue a text; raises UserError for any other."""
    network = trained.compiled.module
    if network.task != "language":
        kind = f'its network is of the kind "{network.task}"'
        raise UserError(f"{trained.path}: {kind}; only a causal language model (head vocabulary, no mask) writes text")
    return network


@torch.no_grad()
def continuation(
    network: nn.Module,
    prompt: Tensor,
    count: int,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator,
) -> Iterator[int]:
    """Token after token, each drawn given those before it, of which the network sees its last `token_count`.

    Args:
        prompt: token numbers, (tokens,) with at least one.
        temperature: divides the logits; 0 takes the most probable token.
        top_k: how many of the most probable tokens may be drawn; None for all.
    """
    read, token = Reader(network), prompt
    for _ in range(count):
        token = drawn(read(token), temperature, top_k, generator)
        yield int(token)


class Reader:
    """Reads on and gives the logits of what comes next.

    A network that takes further tokens reads each once, a prompt at once, its memory holding what those before left;
    without such a method, or where a text has outgrown the network, the last `token_count` tokens are read again for
    every new one.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network, self._device = network, next(network.parameters()).device
        self._seen, self._memory = torch.empty(0, dtype=torch.long), {}
        self._advance = getattr(network, "advance", None)

    def __call__(self, tokens: Tensor) -> Tensor:
        """Logits on the CPU, (vocabulary,), after these further token numbers, (tokens,)."""
        length = self._network.token_count
        fits = len(self._seen) + len(tokens) <= length
        self._seen = torch.cat([self._seen, tokens])[-length:]
        if self._advance is None or not fits:
            self._advance = None  # what it has read is more than it has positions for
            return wide(self._network(self._seen[None].to(self._device)))[0, -1].cpu()
        for part in tokens.to(self._device).split(AT_ONCE):
            logits = self._advance(part[None], self._memory, only_last=True)
        return wide(logits)[0, -1].cpu()


def drawn(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator) -> Tensor:
    """One token number, (1,), from logits (vocabulary,)."""
    if temperature == 0:
        return logits.argmax(dim=0, keepdim=True)
    best = logits.topk(min(top_k or len(logits), len(logits)))
    below = (best.values - best.values[0]).double()  # so that no temperature is too low
    probabilities = (below / temperature).softmax(dim=0).float()
    return best.indices[torch.multinomial(probabilities, 1, generator=generator)]


if __name__ == "__main__":
    run(main)
