"""The tokens between the layers of a network, and each decoder layer put right behind the encoder layer it inverts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

ROLES = ("encoder", "decoder")


def layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All layers in the order in which they are computed, by their names: "encoder.0"."""
    for role in ROLES:
        yield from ((f"{role}.{number}", layer) for number, layer in enumerate(getattr(network, role, ())))


@torch.no_grad()
def between(network: nn.Module, *arguments: Tensor) -> dict[str, list[Tensor]]:
    """By role, the tokens that enter the first layer and those after every layer: 1 + repeats, (batch, N, d) each."""
    found: dict[str, list[Tensor]] = {}
    last: Tensor | None = None
    for name, tokens in network.features(*arguments).items():
        role, number = (*name.split("."), "")[:2]
        if role in ROLES:
            states = found.setdefault(role, [last])
            if len(states) == int(number) + 1:
                states.append(tokens)
            else:
                states[-1] = tokens
        last = tokens
    return found


def paired(network: nn.Module) -> bool:
    """Whether there is a decoder layer for every encoder layer, the last for the first."""
    counts = [len(getattr(network, role, ())) for role in ROLES]
    return counts[0] == counts[1] > 0


@torch.no_grad()
def round_trips(network: nn.Module, states: list[Tensor]) -> list[Tensor]:
    """Of every encoder layer l its input, encoded by it and decoded at once by the decoder's layer L - 1 - l.

    `states` are those of the encoder, as `between` gives them; no norm of the network stands between the two layers.
    """
    pairs = zip(states[:-1], network.encoder, reversed(network.decoder), strict=True)
    return [decode(encode(tokens)) for tokens, encode, decode in pairs]
