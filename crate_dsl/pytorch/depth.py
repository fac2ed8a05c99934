"""The layers of the written file, and their stochastic depth: steps that training leaves out (Huang et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from crate_dsl.language.model import Step, Word
from crate_dsl.operators.program import BlockProgram, Program
from crate_dsl.pytorch.file import File

RATE = "self.drop_rate = drop_rate  # of stochastic depth: how often training leaves a step out"


class StochasticDepth:
    """Writes how a layer takes its steps; false where it takes all of them in training too.

    What looks inside (`features`, `energies`, `fit`, `advance`) takes every step as it is.
    """

    def __init__(self, program: Program, file: File) -> None:
        self._blocks, self._file = program.blocks, file
        self._word: Word | None = None if program.frozen else program.derivation.model.depth

    def __bool__(self) -> bool:
        return bool(self._word and self._word.arguments[0] and (self._word.name == "uniform" or self._last))

    @property
    def _last(self) -> int:
        """The number of the last layer of the network, the first being 0."""
        return sum(block.block.repeat for block in self._blocks) - 1

    # ---- the network --------------------------------------------------------------------------------------------

    def layers(self, name: str, block: BlockProgram) -> str:
        """All layers of a block, counted through the network: what a list of modules is made of."""
        repeat = block.block.repeat
        if not self:
            return f"{name}() for _ in range({repeat})"
        rate = repr(float(self._word.arguments[0]))
        if self._word.name == "uniform":
            return f"{name}({rate}) for _ in range({repeat})"
        before = takewhile(lambda other: other is not block, self._blocks)
        first = sum(other.block.repeat for other in before)
        numbers = f"{first}, {first + repeat}" if first else f"{repeat}"
        return f"{name}(number / {self._last} * {rate}) for number in range({numbers})"

    # ---- a layer ------------------------------------------------------------------------------------------------

    @property
    def argument(self) -> str:
        """Of the layer's `__init__`."""
        return ", drop_rate: float" if self else ""

    def kept(self) -> list[str]:
        """What the layer keeps of it."""
        return [RATE] if self else []

    def steps(self, block: BlockProgram, pruned: Sequence[str]) -> list[str]:
        """The body of the layer's `forward`; `pruned` are the steps that can compute the first token alone."""
        if not self:
            calls = "z"
            for step in block.steps:
                calls = self._call(step.derived.step.label, calls, pruned)
            return [f"return {calls}"]
        self._file.helpers.add("stochastic_depth")
        taken = [self._taken(step.derived.step, pruned) for step in block.steps]
        steps = [*(f"z = {value}" for value in taken[:-1]), f"return {taken[-1]}"]
        return ["rate = self.drop_rate if self.training else 0.0", *steps]

    def _taken(self, step: Step, pruned: Sequence[str]) -> str:
        """A step, left out at the rate; what tokens must fulfil, a projection, is not."""
        call = self._call(step.label, "z", pruned)
        before = "z[:, :1] if only_first else z" if step.label in pruned[:1] else "z"  # behind it one is left
        return call if step.verb == "project" else f"stochastic_depth({before}, {call}, rate)"

    @staticmethod
    def _call(label: str, tokens: str, pruned: Sequence[str]) -> str:
        return f"self.{label}({tokens}{', only_first' * (label in pruned)})"
