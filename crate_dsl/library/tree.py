"""Energies as trees of atoms, shapes checked, names bound to what a step puts there.

A tree is what the user wrote, one node per operation; its derivatives and matrix values are canonical forms
(`library/form.py`). Evaluating a tree with numpy never passes through forms, so it can serve to certify them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import sympy

from crate_dsl.errors import Span
from crate_dsl.library.form import Leaf


@dataclass(frozen=True)
class Matrix:
    """A leaf: tokens, the unknown, a learned matrix or a member of a family."""

    leaf: Leaf
    span: Span | None = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[str, str]:
        return self.leaf.shape


@dataclass(frozen=True)
class Scalar:
    """A number, a size, a real or a learned scalar, as a sympy expression of the symbols in `library/scalars.py`."""

    value: sympy.Expr
    span: Span | None = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[str, str]:
        return ("1", "1")


@dataclass(frozen=True)
class Apply:
    """An atom of `library/atoms.py` applied to trees; also the structural ones (`plus`, `times`, `transpose`)."""

    atom: str
    arguments: tuple[Tree, ...]
    shape: tuple[str, str]
    span: Span | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class SumOver:
    """`sum(index in family) body`."""

    index: str
    family: str
    body: Tree
    span: Span | None = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[str, str]:
        return self.body.shape


Tree = Matrix | Scalar | Apply | SumOver
