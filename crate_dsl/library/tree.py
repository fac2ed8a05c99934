"""Energies as trees of atoms, shapes checked, names bound to what a step puts there.

A tree is what the user wrote, one node per operation; its derivatives and matrix values are canonical forms
(`library/form.py`). Evaluating a tree with numpy never passes through forms, so it can serve to certify them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True)
class SoftmaxOver:
    """`softmax(index in family) body`: the member at the index of the softmax of all members, entry by entry."""

    index: str
    family: str
    body: Tree
    span: Span | None = field(default=None, repr=False, compare=False)

    @property
    def shape(self) -> tuple[str, str]:
        return self.body.shape


Tree = Matrix | Scalar | Apply | SumOver | SoftmaxOver


def children(tree: Tree) -> tuple[Tree, ...]:
    """The trees that a node is made of."""
    match tree:
        case Apply():
            return tree.arguments
        case SumOver() | SoftmaxOver():
            return (tree.body,)
    return ()


def with_children(tree: Tree, change: Callable[[Tree], Tree]) -> Tree:
    """The tree with the trees that it is made of changed."""
    match tree:
        case Apply():
            return replace(tree, arguments=tuple(map(change, tree.arguments)))
        case SumOver() | SoftmaxOver():
            return replace(tree, body=change(tree.body))
    return tree


def tree_leaves(tree: Tree) -> Iterator[Leaf]:
    """Every matrix in a tree."""
    if isinstance(tree, Matrix):
        yield tree.leaf
    for child in children(tree):
        yield from tree_leaves(child)


def tree_scalars(tree: Tree) -> Iterator[sympy.Symbol]:
    """Every scalar symbol in a tree."""
    if isinstance(tree, Scalar):
        yield from sorted(tree.value.free_symbols, key=str)
    for child in children(tree):
        yield from tree_scalars(child)
