"""Exponentials over their sums as softmax and sigmoid, logarithms of such sums as one function: nothing overflows.

`exp(x)` leaves float32 at x = 89 and float16 at x = 12, where its share of a sum and the logarithm of the sum are plain
numbers still. So what is derived from log-densities of mixtures and from softplus stays finite, backward too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sympy

from crate_dsl.language.model import ONE
from crate_dsl.operators.build import (
    combine,
    diagonal,
    factors_of,
    family_logsumexp,
    family_softmax,
    function,
    ones,
    product,
    terms_of,
    transposed,
)
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.rewrite import rebuild

one = sympy.Integer(1)


def stable(graph: Graph, workload: Workload) -> Graph:
    """Every share and every logarithm of a sum of exponentials in its form that does not overflow."""

    def rule(builder: Builder, operator: Operator) -> int | None:
        if operator.kind == "product":
            return _column_shares(builder, operator)
        name = operator.attributes[0] if operator.kind == "function" else ""
        return RULES[name](builder, operator, graph.tokens) if name in RULES else None

    return rebuild(graph, rule)


def _exponent(builder: Builder, number: int) -> int | None:
    """x where a value is exp(x)."""
    operator = builder[number]
    return operator.inputs[0] if operator.kind == "function" and operator.attributes[0] == "exp" else None


# ---- sigmoid and softplus ------------------------------------------------------------------------------------------


def _one_more(builder: Builder, number: int) -> int | None:
    """x where a value is 1 + exp(x), entry by entry."""
    terms = terms_of(builder, number)
    if len(terms) != 2 or any(coefficient != 1 for coefficient, _ in terms):
        return None
    (_, first), (_, second) = terms
    for constant, power in ((first, second), (second, first)):
        if all(_is_ones(builder, n) for n in factors_of(builder, constant)):
            return _exponent(builder, power)
    return None


def _is_ones(builder: Builder, number: int) -> bool:
    """A row or a column of ones; what is made of several as a product is their outer product."""
    operator = builder[number]
    return operator.kind == "ones" or (operator.kind == "transpose" and _is_ones(builder, operator.inputs[0]))


def _reciprocal(builder: Builder, operator: Operator, tokens: str) -> int | None:
    """`1 / (1 + exp(x)) = sigmoid(-x)`."""
    x = _one_more(builder, operator.inputs[0])
    return None if x is None else function(builder, "sigmoid", (_minus(builder, x),))


def _log1p(builder: Builder, operator: Operator, tokens: str) -> int | None:
    x = _exponent(builder, operator.inputs[0])
    return None if x is None else function(builder, "softplus", (x,))


def _minus(builder: Builder, number: int) -> int:
    return combine(builder, [(-one, number)])


# ---- shares of a sum -----------------------------------------------------------------------------------------------


def _entries(builder: Builder, number: int) -> list[int]:
    """The factors of an entry-wise product."""
    operator = builder[number]
    if operator.kind != "function" or operator.attributes[0] != "hadamard":
        return [number]
    return [factor for n in operator.inputs for factor in _entries(builder, n)]


def _hadamard(builder: Builder, operator: Operator, tokens: str) -> int | None:
    """`exp(x) .* reciprocal(sum(k in K) exp(x))`, and `exp(x) .* sigmoid(-x) = sigmoid(x)`."""
    factors = [factor for n in operator.inputs for factor in _entries(builder, n)]
    for power in factors:
        x = _exponent(builder, power)
        for other in factors if x is not None else ():
            share = _share(builder, power, x, other)
            if share is not None:
                rest = list(factors)
                rest.remove(power)
                rest.remove(other)
                return _multiplied(builder, [share, *rest])
    return None


def _share(builder: Builder, power: int, x: int, other: int) -> int | None:
    """`exp(x) .* other`, where the other is one over a sum of such."""
    operator = builder[other]
    if operator.kind != "function":
        return None
    if operator == Operator("function", (_minus(builder, x),), operator.type, ("sigmoid", ())):
        return function(builder, "sigmoid", (x,))
    total = builder[operator.inputs[0]]
    if operator.attributes[0] == "reciprocal" and total.kind == "family_sum" and total.inputs == (power,):
        return family_softmax(builder, x)
    return None


def _multiplied(builder: Builder, factors: list[int]) -> int:
    result = factors[0]
    for factor in factors[1:]:
        result = function(builder, "hadamard", (result, factor))
    return result


def _column_shares(builder: Builder, operator: Operator) -> int | None:
    """`exp(X) * diag(1 / column sums)` is the softmax of every column, its transpose that of every row."""
    factors = list(operator.inputs)
    for place in range(len(factors) - 1):
        left, right = factors[place : place + 2]
        shares = _columns_over_sums(builder, left, right)
        if not shares and builder[left].kind == "diagonal":
            turned = _columns_over_sums(builder, transposed(builder, right), left)
            shares = [transposed(builder, factor) for factor in reversed(turned)]
        if shares:
            return product(builder, [*factors[:place], *shares, *factors[place + 2 :]])
    return None


def _columns_over_sums(builder: Builder, power: int, scale: int) -> list[int]:
    """The softmax, and what else the columns are scaled by; nothing where they are not over their sums."""
    x = _exponent(builder, power)
    if x is None or builder[scale].kind != "diagonal":
        return []
    sums = product(builder, [transposed(builder, power), ones(builder, builder.type(power).rows)])
    scales, inverse = _entries(builder, builder[scale].inputs[0]), function(builder, "reciprocal", (sums,))
    if inverse not in scales:
        return []
    scales.remove(inverse)
    rest = [diagonal(builder, _multiplied(builder, scales))] if scales else []
    return [function(builder, "softmax", (x,)), *rest]


# ---- logarithms of a sum -------------------------------------------------------------------------------------------


def _log(builder: Builder, operator: Operator, tokens: str) -> int | None:
    """Of a sum over a family, over the entries of every column, or of one and an exponential."""
    total = builder[operator.inputs[0]]
    if total.kind == "family_sum":
        x = _exponent(builder, total.inputs[0])
        return None if x is None else family_logsumexp(builder, x)
    x = _one_more(builder, operator.inputs[0])
    if x is not None:
        return function(builder, "softplus", (x,))
    return next(_of_columns(builder, total, tokens), None)


def _of_columns(builder: Builder, total: Operator, tokens: str) -> Iterator[int]:
    """Column by column, or row by row of a transpose; sums over tokens may be running ones and stay as they are."""
    if total.kind != "product" or len(total.inputs) != 2:
        return
    for lines, weights, turn in ((1, 0, False), (0, 1, True)):
        x = _exponent(builder, total.inputs[lines])
        if x is not None and _is_ones(builder, total.inputs[weights]):
            columns = transposed(builder, x) if turn else x
            kind = builder.type(columns)
            if kind.rows != tokens:
                row = Operator("lines", (columns,), kind.of(ONE, kind.cols), ("column_logsumexp",))
                yield transposed(builder, builder.add(row)) if turn else builder.add(row)


RULES: dict[str, Callable[[Builder, Operator, str], int | None]] = {
    "reciprocal": _reciprocal,
    "log1p": _log1p,
    "hadamard": _hadamard,
    "log": _log,
}
