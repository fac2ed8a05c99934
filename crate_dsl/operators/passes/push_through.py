"""Invert on the smaller side: `A (c I + s B A)^-1 = (c I + s A B)^-1 A`, and Woodbury's identity where no A stands by.

With `B = W'` and `A = W` (p x N) the exact gradient of a coding rate costs p x p solves, linear in the tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import sympy

from crate_dsl.operators.build import combine, identity, inverse, product
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes.identity_plus import identity_plus
from crate_dsl.operators.rewrite import copied, rebuild_one

one = sympy.Integer(1)


def push_through(graph: Graph, workload: Workload) -> Graph:
    """Apply the identities wherever they cost less, the cheapest first."""
    while True:
        candidates = [candidate for number in graph for candidate in _candidates(graph, number)]
        best = min(candidates, key=lambda candidate: _price(candidate, workload), default=None)
        if best is None or _price(best, workload) >= _price(graph, workload):
            return graph
        graph = best


def _price(graph: Graph, workload: Workload) -> tuple[int, float]:
    """The cost; first of all, a causal graph must not invert among tokens, since every prefix has its own inverse."""
    among = sum(graph[n].type.rows == graph.tokens for n in graph.operators("inverse")) if graph.causal else 0
    return among, price(graph, workload)


def _candidates(graph: Graph, number: int) -> Iterator[Graph]:
    """The graph with one operator replaced, in every way that an identity allows."""
    operator = graph[number]
    inverses = [n for n in (number, *operator.inputs) if graph[n].kind == "inverse"]
    if operator.kind not in ("product", "inverse") or not inverses:
        return
    builder, numbers = copied(graph)
    for choice in range(len(_ways(builder, builder[numbers[number]]))):
        yield _replaced(graph, number, choice)


def _replaced(graph: Graph, number: int, choice: int) -> Graph:
    return rebuild_one(graph, number, lambda builder, operator: _ways(builder, operator)[choice])


def _ways(builder: Builder, operator: Operator) -> list[int]:
    return _pushed(builder, operator) if operator.kind == "product" else _woodbury(builder, operator)


def _pushed(builder: Builder, operator: Operator) -> list[int]:
    """Every inverse moved across the factor beside it."""
    factors, ways = operator.inputs, []
    for place, factor in enumerate(factors):
        if builder[factor].kind != "inverse":
            continue
        before, after = factors[:place], factors[place + 1 :]
        for matrix in identity_plus(builder, builder[factor].inputs[0]):
            if before[-len(matrix.right) :] == matrix.right:
                moved = inverse(builder, matrix.swapped(builder))
                ways.append(product(builder, (*before[: -len(matrix.right)], moved, *matrix.right, *after)))
            if after[: len(matrix.left)] == matrix.left:
                moved = inverse(builder, matrix.swapped(builder))
                ways.append(product(builder, (*before, *matrix.left, moved, *after[len(matrix.left) :])))
    return ways


def _woodbury(builder: Builder, operator: Operator) -> list[int]:
    """`(c I + s B A)^-1 = (I - s B (c I + s A B)^-1 A) / c`."""
    ways = []
    axis = operator.type.rows
    for matrix in identity_plus(builder, operator.inputs[0]):
        inner = product(builder, (*matrix.left, inverse(builder, matrix.swapped(builder)), *matrix.right))
        terms = [(one / matrix.shift, identity(builder, axis)), (-matrix.scale / matrix.shift, inner)]
        ways.append(combine(builder, terms, axis, axis))
    return ways
