"""A text in parts: the method of a causal language model for sampling; constant in cost where sums suffice."""

from __future__ import annotations

from crate_dsl.language.model import Model, NormStage
from crate_dsl.operators.columns import acts_on_every_token, is_causal
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.passes.running_sums import streaming
from crate_dsl.operators.program import BlockProgram, Program, StepProgram
from crate_dsl.operators.uses import step_parameters
from crate_dsl.pytorch.lines import docstring, indented

ABOUT = [
    "Logits, (batch, tokens, vocabulary), after further tokens of a text, (batch, tokens), at least one.",
    "",
    "The memory, {} at first, is what those before them left. With `only_last` the logits are those of the last token",
    "alone, (batch, 1, vocabulary).",
]
LAST = "z = z[:, -1:] if only_last else z"


def advancing(step: StepProgram) -> Graph | None:
    """The graph that takes further tokens of a text, None where a step needs no memory or has no such form."""
    if step.derived.step.causal:
        return streaming(step.forward)
    return streaming(step.forward) if _is_placed(step) and not step.code else None


def _is_placed(step: StepProgram) -> bool:
    """Whether a step takes every token by itself, but with what is learned for its place in the text."""
    return not step.derived.step.causal and is_causal(step) and not acts_on_every_token(step)


def advances(program: Program, causal: bool) -> bool:
    """Whether a network can read a text in parts: a causal language model of which every step can."""
    steps = (step for step in program.steps if step.derived.step.causal or _is_placed(step))
    is_text = program.derivation.model.head.word.name == "vocabulary"
    return causal and is_text and all(advancing(step) is not None for step in steps)


def advance_method(program: Program, helpers: set[str], head: str) -> list[str]:
    """The method; `helpers` takes up the functions that it calls, `head` is the code of the head."""
    model: Model = program.derivation.model
    lines = ["z = self.embedding(text)  # (batch, tokens, features)", *_places(program, helpers)]
    if any(_is_single(step) for step in program.steps):
        helpers.add("one_by_one")
        lines.append("few = text.numel() <= z.shape[-1]  # tokens: to collect weights for them would cost more")
    for stage in model.stages:
        if isinstance(stage, NormStage):
            lines.append(f"z = self.{stage.name}(z)")
        else:
            lines += _layers(next(b for b in program.blocks if b.block.role == stage.role))
    return [
        "def advance(self, text: Tensor, memory: dict, only_last: bool = False) -> Tensor:",
        *indented([*docstring(ABOUT), *lines, LAST, f"return {head}"]),
    ]


def _places(program: Program, helpers: set[str]) -> list[str]:
    """Where the tokens stand; what is learned for every place ends somewhere."""
    tokens = program.derivation.model.tokens
    positions = any(word.name == "position" for word in tokens.words)
    shapes = [parameter.shape for step in program.steps for parameter, _ in step_parameters(step)]
    if not positions and not any(tokens.cols in (shape.rows, shape.cols) for shape in shapes):
        return []
    helpers.add("places_now")
    places = "places_now(text, memory, self.token_count)"
    return [f"z = z + self.position[:, {places}]" if positions else places]


def _is_single(step: StepProgram) -> bool:
    """Whether the network calls another method of a step where few tokens come."""
    return step.single is not None and advancing(step) is None


def _layers(block: BlockProgram) -> list[str]:
    """Every layer with a memory of its own for every step that mixes tokens, or that asks for their places."""
    role, calls = block.block.role, []
    for step in block.steps:
        label = step.derived.step.label
        if advancing(step) is not None:
            calls.append(f'own = memory.setdefault(("{role}", number, "{label}"), {{}})')
            calls.append(f"z = layer.{label}.advance(z, own)")
        elif _is_single(step):
            calls.append(f"z = one_by_one(layer.{label}, z) if few else layer.{label}(z)")
        else:
            calls.append(f"z = layer.{label}(z)")
    numbered = any(call.startswith("own") for call in calls)
    loop = f"for number, layer in enumerate(self.{role}):" if numbered else f"for layer in self.{role}:"
    return [loop, *indented(calls)]
