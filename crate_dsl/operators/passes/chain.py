"""Order the products of more than two factors by cost (the matrix-chain problem, with batch and heads)."""

from __future__ import annotations

from crate_dsl.operators.build import product
from crate_dsl.operators.cost import Workload, chain_order
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.rewrite import rebuild


def chain(graph: Graph, workload: Workload) -> Graph:
    """Products of two only: `D'(D v)` or `(D'D) v`, whichever costs less."""

    def rule(builder: Builder, operator: Operator) -> int | None:
        if operator.kind != "product" or len(operator.inputs) == 2:
            return None
        kinds = tuple(builder.type(n) for n in operator.inputs)
        return _nested(builder, operator.inputs, chain_order(graph, kinds, workload)[1])

    return rebuild(graph, rule)


def _nested(builder: Builder, inputs: tuple[int, ...], order: tuple | int) -> int:
    if isinstance(order, int):
        return inputs[order]
    return product(builder, [_nested(builder, inputs, part) for part in order])
