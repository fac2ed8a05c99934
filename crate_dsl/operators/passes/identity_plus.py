"""Matrices `c I + s B A`, the pattern of push-through, Woodbury's and Sylvester's identities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sympy

from crate_dsl.operators.build import combine, factors_of, identity, product, terms_of
from crate_dsl.operators.graph import Builder


@dataclass(frozen=True)
class IdentityPlus:
    """`shift I + scale * left * right`, the factors of left and right in order."""

    shift: sympy.Expr
    scale: sympy.Expr
    left: tuple[int, ...]
    right: tuple[int, ...]

    def swapped(self, builder: Builder) -> int:
        """`shift I + scale * right * left`, the matrix of the other side."""
        axis = builder.type(self.right[0]).rows
        inner = product(builder, (*self.right, *self.left))
        return combine(builder, [(self.shift, identity(builder, axis)), (self.scale, inner)], axis, axis)


def identity_plus(builder: Builder, number: int) -> Iterator[IdentityPlus]:
    """Every way to read a value as `c I + s B A`; none where it is something else."""
    terms = terms_of(builder, number)
    units = [c for c, n in terms if builder[n].kind == "identity"]
    others = [(c, n) for c, n in terms if builder[n].kind != "identity"]
    if len(units) != 1 or len(others) != 1:
        return
    scale, factors = others[0][0], factors_of(builder, others[0][1])
    for place in range(1, len(factors)):
        yield IdentityPlus(units[0], scale, factors[:place], factors[place:])
