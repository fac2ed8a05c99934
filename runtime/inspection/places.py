"""Every step of every layer of a network, with its learned matrices as the spec states them, in float64 numpy.

The written file stores a family `K of d x p` transposed and stacked, tokens as rows, positive scalars as logarithms;
here they are K x d x p, columns, and themselves, so that the compiler's own meaning of a derivation
(`crate_dsl.mathematics.evaluate`) can be taken at a trained network and its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from crate_dsl import Compilation
from crate_dsl.language.model import Block, LearnedScalar, Parameter, axis_size
from crate_dsl.mathematics.derivation import DerivedStep
from crate_dsl.mathematics.evaluate import Point, held_point, prefix_point
from crate_dsl.mathematics.reference import held_to
from crate_dsl.pytorch.parameters import attribute, scalar_attribute


@dataclass(frozen=True)
class Place:
    """One step of one layer. `name` is that of `features` and `energies`: "encoder.3.compress"."""

    name: str
    layer: int
    block: Block
    derived: DerivedStep
    module: nn.Module
    compilation: Compilation

    @property
    def label(self) -> str:
        """The step without its layer: "encoder.compress"."""
        return f"{self.block.role}.{self.derived.step.label}"

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The matrices that this step reads, those first that its energy is stated with."""
        both = {parameter.name: parameter for parameter in (*self.derived.parameters, *self.block.parameters)}
        return tuple(p for name, p in both.items() if not p.stored or hasattr(self.module, attribute(name)))

    def matrix(self, parameter: Parameter) -> np.ndarray:
        """rows x cols, or members x rows x cols of a family."""
        if not parameter.stored:
            return held_to(parameter, self.matrix(next(p for p in self.parameters if p.name == parameter.origin)))
        stored = array(getattr(self.module, attribute(parameter.name)))
        shape, sizes = parameter.shape, self.block.sizes
        rows, cols = (axis_size(axis, sizes) for axis in (shape.rows, shape.cols))
        if shape.family:
            return stored.reshape(sizes[shape.family], cols, rows).transpose(0, 2, 1)
        return stored.reshape(rows, cols)

    def matrices(self) -> dict[str, np.ndarray]:
        return {parameter.name: self.matrix(parameter) for parameter in self.parameters}

    def scalars(self) -> dict[str, float | np.ndarray]:
        """Fixed and learned ones, an array where there is one per head."""
        model = self.compilation.model
        found: dict[str, float | np.ndarray] = {name: float(value) for name, value in model.reals.items()}
        for learned in (*model.scalars, *self.block.scalars):
            if hasattr(self.module, scalar_attribute(learned)):
                found[learned.name] = self.scalar(learned)
                if learned.base:
                    found[learned.base] = found[learned.name]
        return found

    def scalar(self, learned: LearnedScalar) -> float | np.ndarray:
        value = array(getattr(self.module, scalar_attribute(learned)))
        value = value if learned.lower is None else float(learned.lower) + np.exp(value)
        return value if learned.family else float(value)

    def read(self, tokens: Tensor) -> Tensor:
        """Tokens (..., N, d) as the step reads them: through its norm where it has one."""
        return self.module.norm(tokens) if self.derived.step.norm else tokens

    def point(self, tokens: np.ndarray, first: int | None = None) -> Point:
        """Numbers for every name of the step, its tokens (d, N) in both places, raw and as read.

        Quantities that the derivation holds are computed from the tokens. With `first` the step reads so many of them
        only, and what is learned for every place is cut alike.
        """
        sizes = {**self.block.sizes, self.derived.raw.cols: tokens.shape[1]}
        own = {self.derived.raw.name: tokens, self.derived.read.name: tokens}
        point = Point(sizes, self.scalars(), self.matrices() | own)
        if first is not None and first < tokens.shape[1]:
            point = prefix_point(self.derived, point, first)
        return held_point(self.derived, point)


def array(value: Tensor) -> np.ndarray:
    return value.detach().double().cpu().numpy()


def columns(tokens: Tensor) -> np.ndarray:
    """Tokens of one input (N, d), or of a batch (batch, N, d), as columns: (d, N) or (batch, d, N)."""
    return array(tokens).swapaxes(-1, -2)


def places(compilation: Compilation, network: nn.Module) -> Iterator[Place]:
    """All steps in the order of the computation, those of the layer `encoder.0` first."""
    for derived in compilation.derivation.blocks:
        for number, layer in enumerate(getattr(network, derived.block.role)):
            for step in derived.steps:
                label = step.step.label
                name = f"{derived.block.role}.{number}.{label}"
                yield Place(name, number, derived.block, step, getattr(layer, label), compilation)
