"""Energies as graphs: one scalar per image, from the tree that the user wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import sympy

from crate_dsl.errors import CompilerBug
from crate_dsl.language.model import ONE
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Leaf
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.library.tree import Apply, Matrix, Scalar, SoftmaxOver, SumOver, Tree
from crate_dsl.operators.build import (
    combine,
    diagonal,
    factors_of,
    family_softmax,
    family_sum,
    function,
    identity,
    ones,
    product,
    reduced,
    terms_of,
    transposed,
)
from crate_dsl.operators.graph import Builder, Operator

one = sympy.Integer(1)


class Scope(Protocol):
    """What the lowering of forms offers to that of trees."""

    builder: Builder
    families: Mapping[str, str]

    def leaf(self, leaf: Leaf) -> int: ...
    def coefficient(self, value: sympy.Expr) -> sympy.Expr: ...
    def weighted(self, value: sympy.Expr, number: int) -> tuple[sympy.Expr, int]: ...
    def number(self, value: sympy.Expr) -> int: ...
    def inside(self, over: tuple[tuple[str, str], ...]) -> Scope: ...


def lower_tree(tree: Tree, scope: Scope) -> int:
    """The value of a tree as a number in the scope's builder.

    Raises:
        CompilerBug: for an atom that has neither a structural rule nor a meaning in the library.
    """
    match tree:
        case Matrix():
            return scope.leaf(tree.leaf)
        case Scalar():
            return scope.number(tree.value)
        case SumOver():
            return _family(tree, scope)
        case SoftmaxOver():
            return family_softmax(scope.builder, lower_tree(tree.body, scope))
        case Apply(atom="I"):
            return identity(scope.builder, tree.shape[0])
        case Apply(atom="scale", arguments=(Scalar() as factor, operand)):
            return _linear([scope.weighted(factor.value, lower_tree(operand, scope))], scope)
        case Apply() if tree.atom in STRUCTURE:
            return STRUCTURE[tree.atom](scope, *(lower_tree(a, scope) for a in tree.arguments))
        case Apply() if tree.atom in FUNCTIONS:
            return function(scope.builder, tree.atom, tuple(lower_tree(a, scope) for a in tree.arguments))
        case Apply() if tree.atom in ATOMS:
            return _reduction(tree, scope)
    raise CompilerBug(f"no operator for {tree}")


def _family(tree: SumOver, scope: Scope) -> int:
    """A term free of the index is counted once per member."""
    body = lower_tree(tree.body, scope.inside(((tree.index, tree.family),)))
    if scope.builder.type(body).family is None:
        count = sympy.Symbol(tree.family, positive=True, integer=True)
        return _linear([(count, body)], scope)
    return family_sum(scope.builder, body)


def _linear(terms: list[tuple[sympy.Expr, int]], scope: Scope) -> int:
    """A linear combination, with those inside it opened, so that its terms can be merged."""
    opened = [(outer * inner, n) for outer, m in terms for inner, n in terms_of(scope.builder, m)]
    kind = scope.builder.type(terms[0][1])
    return combine(scope.builder, opened, kind.rows, kind.cols)


def _times(scope: Scope, left: int, right: int) -> int:
    """The product; a coefficient of a factor moves out of it, so that products stay flat."""
    builder = scope.builder
    (a, x), (b, y) = _scaled(builder, left), _scaled(builder, right)
    factors = [*factors_of(builder, x), *factors_of(builder, y)]
    return _linear([(a * b, product(builder, factors))], scope)


def _scaled(builder: Builder, number: int) -> tuple[sympy.Expr, int]:
    terms = terms_of(builder, number)
    return terms[0] if len(terms) == 1 else (one, number)


def _reduction(tree: Apply, scope: Scope) -> int:
    argument = lower_tree(tree.arguments[0], scope)
    if tree.atom == "logdet":
        kind = scope.builder.type(argument).of("1", "1")
        return scope.builder.add(Operator("logdet", (argument,), kind, (False,)))
    parameters = tuple(scope.coefficient(a.value) for a in tree.arguments[1:])
    return reduced(scope.builder, tree.atom, argument, parameters)


def _ones(scope: Scope, axis: str, turned: bool) -> int:
    number = ones(scope.builder, axis)
    return transposed(scope.builder, number) if turned else number


def _every_column(scope: Scope, column: int, beside: int) -> int:
    """`b 1'`, with as many columns as the matrix beside it."""
    return product(scope.builder, [column, _ones(scope, scope.builder.type(beside).cols, True)])


def _turned(scope: Scope, number: int) -> int:
    """The transpose; a row or a column is turned as it is, so that what it is made of stays the right way up."""
    kind = scope.builder.type(number)
    if ONE in (kind.rows, kind.cols) and scope.builder[number].inputs and not kind.is_scalar:
        return scope.builder.add(Operator("transpose", (number,), kind.T))
    return transposed(scope.builder, number)


STRUCTURE: dict[str, Callable[..., int]] = {
    "plus": lambda scope, a, b: _linear([(one, a), (one, b)], scope),
    "minus": lambda scope, a, b: _linear([(one, a), (-one, b)], scope),
    "transpose": lambda scope, a: _turned(scope, a),
    "times": _times,
    "add_column": lambda scope, a, b: _linear([(one, a), (one, _every_column(scope, b, a))], scope),
    "diag": lambda scope, a: diagonal(scope.builder, a),
    "column_sums": lambda scope, a: product(scope.builder, [_ones(scope, scope.builder.type(a).rows, True), a]),
    "row_sums": lambda scope, a: product(scope.builder, [a, _ones(scope, scope.builder.type(a).cols, False)]),
    "column_norms": lambda scope, a: scope.builder.add(
        Operator("lines", (a,), scope.builder.type(a).of(ONE, scope.builder.type(a).cols), ("column_norms",))
    ),
}
