"""What the back end passes on: the graphs of every step beside the derivation that they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from crate_dsl.language.model import Block
from crate_dsl.mathematics.derivation import Derivation, DerivedBlock, DerivedPenalty, DerivedStep
from crate_dsl.operators.graph import Graph


@dataclass(frozen=True)
class StepProgram:
    """The graphs of one step.

    `forward` maps the tokens (raw and as read) to the step's result. Where the energy is evaluated at a code that is
    then read out, `code` maps the tokens as read to that code and `forward` takes it as an input. `energy` maps the
    objective's variable, and what it is given, to one number per image; `start` is where the energy before is taken.
    `fits` map the tokens as read, of fitting data, to what the step keeps of them; `estimates` map later ones to what
    stands for given quantities. `pruned` is the forward pass for the first token alone, where that is all that is read,
    `single` that for one token by itself, where it costs less than what is written for many. Of a frozen step, `fold`
    maps weights to what is made of them alone, and the graphs of the forward pass have that as parameters.
    """

    derived: DerivedStep
    block: Block
    forward: Graph
    code: Graph | None
    energy: Graph
    start: Graph
    fits: tuple[Graph, ...] = ()
    estimates: tuple[Graph, ...] = ()
    pruned: Graph | None = None
    single: Graph | None = None
    fold: Graph | None = None

    @property
    def graphs(self) -> tuple[Graph, ...]:
        code, fold = ((graph,) if graph else () for graph in (self.code, self.fold))
        return (*fold, *code, self.forward, self.energy, self.start, *self.fits, *self.estimates)

    def mapped(self, change: Callable[[Graph], Graph]) -> StepProgram:
        code = change(self.code) if self.code else None
        fits, estimates = tuple(map(change, self.fits)), tuple(map(change, self.estimates))
        changed = replace(self, forward=change(self.forward), code=code, fits=fits, estimates=estimates)
        fold = change(self.fold) if self.fold else None
        return replace(changed, energy=change(self.energy), start=change(self.start), fold=fold)


@dataclass(frozen=True)
class BlockProgram:
    """One layer of a block."""

    derived: DerivedBlock
    steps: tuple[StepProgram, ...]

    @property
    def block(self) -> Block:
        return self.derived.block


@dataclass(frozen=True)
class PenaltyProgram:
    """The weighted energies of a loss in one place: `graph` maps the tokens there to one number per image."""

    derived: DerivedPenalty
    graph: Graph


@dataclass(frozen=True)
class Program:
    """All graphs of a network; layers are lowered once, the repeat count stays in the block.

    A frozen one is for inference: what is made of weights alone is made once, and kept.
    """

    derivation: Derivation
    blocks: tuple[BlockProgram, ...]
    penalties: tuple[PenaltyProgram, ...] = ()
    frozen: bool = False

    @property
    def steps(self) -> Iterator[StepProgram]:
        for block in self.blocks:
            yield from block.steps

    @property
    def graphs(self) -> Iterator[Graph]:
        """Those of all steps, and of what the loss adds."""
        yield from (graph for step in self.steps for graph in step.graphs)
        yield from (penalty.graph for penalty in self.penalties)
