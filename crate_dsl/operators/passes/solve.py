"""No inverse is formed where a solve will do, and Cholesky solves where the matrix is positive definite."""

from __future__ import annotations

from dataclasses import replace

from crate_dsl.operators.build import joined, product, transposed
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.rewrite import rebuild
from crate_dsl.operators.signs import is_definite


def solve(graph: Graph, workload: Workload) -> Graph:
    """`M^-1 X` becomes a solve with the factor X on the right of the inverse, or on its left where it stands last."""

    def rule(builder: Builder, operator: Operator) -> int | None:
        if operator.kind == "product":
            return _solved(builder, list(operator.inputs))
        if operator.kind == "logdet":
            return builder.add(replace(operator, attributes=(is_definite(builder, operator.inputs[0]),)))
        return None

    return rebuild(graph, rule)


def _solved(builder: Builder, factors: list[int]) -> int:
    for place in range(len(factors) - 1, -1, -1):
        if builder[factors[place]].kind != "inverse":
            continue
        matrix = builder[factors[place]].inputs[0]
        if place + 1 < len(factors):
            factors[place : place + 2] = [_solution(builder, matrix, factors[place + 1])]
        else:
            flipped = _solution(builder, transposed(builder, matrix), transposed(builder, factors[place - 1]))
            factors[place - 1 : place + 1] = [transposed(builder, flipped)]
            return _solved(builder, factors)
    return product(builder, factors)


def _solution(builder: Builder, matrix: int, right: int) -> int:
    kinds = [builder.type(matrix), builder.type(right)]
    kind = joined(kinds, kinds[0].cols, kinds[1].cols)
    return builder.add(Operator("solve", (matrix, right), kind, (is_definite(builder, matrix),)))
