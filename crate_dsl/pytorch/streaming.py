"""One token at a time: the method of a causal language model for sampling, constant in cost where sums suffice."""

from __future__ import annotations

from crate_dsl.language.model import Model, NormStage
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.passes.running_sums import streaming
from crate_dsl.operators.program import BlockProgram, Program, StepProgram


def advancing(step: StepProgram) -> Graph | None:
    """The graph that takes one token at a time, None where a step needs no memory or has no such form."""
    return streaming(step.forward) if step.derived.step.causal else None


def advances(program: Program, causal: bool) -> bool:
    """Whether a network can be run token by token: a causal language model of which every step can."""
    steps = (step for step in program.steps if step.derived.step.causal)
    is_text = program.derivation.model.head.word.name == "vocabulary"
    return causal and is_text and all(advancing(step) is not None for step in steps)


def advance_method(program: Program, head: str) -> list[str]:
    """The method; `head` is the code of the head."""
    model: Model = program.derivation.model
    lines = ["z = self.embedding(text)  # (batch, 1, features)"]
    if any(word.name == "position" for word in model.tokens.words):
        lines += [
            'place = memory["place"] = memory.get("place", -1) + 1',
            "z = z + self.position[:, place : place + 1]",
        ]
    for stage in model.stages:
        if isinstance(stage, NormStage):
            lines.append(f"z = self.{stage.name}(z)")
        else:
            lines += _layers(next(b for b in program.blocks if b.block.role == stage.role))
    about = (
        '"""Logits, (batch, 1, vocabulary), after one more token, (batch, 1); the memory starts as {} and is kept."""'
    )
    return [
        "def advance(self, text: Tensor, memory: dict) -> Tensor:",
        *(f"    {line}" for line in (about, *lines, f"return {head}")),
    ]


def _layers(block: BlockProgram) -> list[str]:
    """Every layer with a memory of its own for every step that mixes tokens."""
    role, calls = block.block.role, []
    for step in block.steps:
        label = step.derived.step.label
        if step.derived.step.causal:
            calls.append(f'own = memory.setdefault(("{role}", number, "{label}"), {{}})')
            calls.append(f"z = layer.{label}.advance(z, own)")
        elif step.single:
            calls.append(f"z = layer.{label}.single(z)")
        else:
            calls.append(f"z = layer.{label}(z)")
    numbered = any(call.startswith("own") for call in calls)
    loop = f"for number, layer in enumerate(self.{role}):" if numbered else f"for layer in self.{role}:"
    return [loop, *(f"    {call}" for call in calls)]
