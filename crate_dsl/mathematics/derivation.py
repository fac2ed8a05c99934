"""What a step becomes: assignments of canonical forms, and the record of how they were derived."""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy

from crate_dsl.errors import Span
from crate_dsl.language.model import Block, Model, Parameter, Penalty, Step
from crate_dsl.library.form import Form, Leaf
from crate_dsl.library.rules import Fitted
from crate_dsl.library.tree import Tree
from crate_dsl.mathematics.quantities import Quantity

EXACT, APPROXIMATION, CHOICE = "exact", "approximation", "choice"


@dataclass(frozen=True)
class Piece:
    """On `lower <= v <= upper` the map is `slope * v + intercept`; the ends may be infinite (sympy.oo)."""

    lower: sympy.Expr
    upper: sympy.Expr
    slope: sympy.Expr
    intercept: sympy.Expr


@dataclass(frozen=True)
class Prox:
    """`argmin_z 1/2 (z - v)^2 + t g(z)` as a piecewise linear map of v, applied entry by entry.

    Pieces are ordered and cover the line; where `continuous` is false the map jumps at a common end (hard threshold).
    """

    pieces: tuple[Piece, ...]

    @property
    def continuous(self) -> bool:
        return all(
            sympy.simplify((a.slope - b.slope) * a.upper + a.intercept - b.intercept) == 0
            for a, b in zip(self.pieces, self.pieces[1:], strict=False)
        )


@dataclass(frozen=True)
class Assignment:
    """`target = prox(value)`, or `target = value` without a prox."""

    target: Leaf
    value: Form
    prox: Prox | None = None
    size: sympy.Expr | None = None  # eta of the prox, where it is one of this iteration alone


@dataclass(frozen=True)
class Objective:
    """The stated energy with the step's names in it, and where to evaluate it.

    `variable` is the leaf in `energy` that the step optimises; `before` and `after` are forms (of the step's own
    leaves) to be put in its place. Where `renorm` is true the step replaces tokens that it reads normed, so the energy
    after is that of the step's norm applied to `after`; the raw energies then use `raw` and `after` without the norm.
    Terms that are constraints (indicators) are left out of `energy`.
    """

    energy: Tree
    variable: Leaf
    before: Form
    after: Form
    renorm: bool


@dataclass(frozen=True)
class DerivationStep:
    """One line of a derivation: which rule turned `before` into `after`, why that is allowed, and of which kind."""

    rule: str
    before: Form | Tree | Assignment | str
    after: Form | Tree | Assignment | str
    why: str
    kind: str  # EXACT, APPROXIMATION or CHOICE
    span: Span | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class DerivedStep:
    """One derived step of a layer.

    `raw` is the leaf of the tokens as they come in, `read` that of the tokens as the operator reads them (normed; the
    same leaf as `raw` where the step has no norm). Assignments are executed in order; `result` becomes the tokens.
    `parameters` holds every learned matrix the assignments use, also those that an approximation introduced.
    """

    step: Step
    raw: Leaf
    read: Leaf
    assignments: tuple[Assignment, ...]
    result: Leaf
    parameters: tuple[Parameter, ...]
    objective: Objective
    record: tuple[DerivationStep, ...]
    size: sympy.Expr = sympy.Integer(1)  # kappa of a gradient step, eta of a proximal one
    quantities: tuple[Quantity, ...] = ()  # held constant by the derivation; computed first, in their order
    fitted: tuple[Fitted, ...] = ()  # what is computed from fitting data, in terms of the tokens as read


@dataclass(frozen=True)
class DerivedBlock:
    """One layer of a block, derived once; `block` carries the repeat count and the sizes in force."""

    block: Block
    steps: tuple[DerivedStep, ...]
    record: tuple[DerivationStep, ...]  # how the block itself came about (an inverse), empty where it was written


@dataclass(frozen=True)
class DerivedPenalty:
    """The weighted energies of a loss that are evaluated in one place, as one tree over the tokens' leaf.

    `block` is the block on whose layers' results they are evaluated, None for the tokens that the head reads; `terms`
    are the trees of the energies without their weights.
    """

    block: Block | None
    tokens: Leaf
    tree: Tree
    penalties: tuple[Penalty, ...]
    terms: tuple[Tree, ...]

    @property
    def place(self) -> str:
        return f"{self.block.role if self.block else 'head'}.penalty"

    @property
    def where(self) -> str:
        """On which tokens it is evaluated, in words."""
        return (
            f"the tokens that leave each layer of the {self.block.role}"
            if self.block
            else "the tokens that the head reads"
        )


@dataclass(frozen=True)
class Derivation:
    """The whole network, derived."""

    model: Model
    blocks: tuple[DerivedBlock, ...]
    penalties: tuple[DerivedPenalty, ...] = ()
