"""Recognise `(c I + s W W')^-1 W`: one operator, whose backward pass needs four products and no further solve."""

from __future__ import annotations

from crate_dsl.operators.build import transposed
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes.identity_plus import identity_plus
from crate_dsl.operators.rewrite import rebuild


def gram_solve(graph: Graph, workload: Workload) -> Graph:
    """Close a definite solve over the tokens that its matrix is made of."""

    def rule(builder: Builder, operator: Operator) -> int | None:
        if operator.kind != "solve" or not operator.attributes[0]:
            return None
        matrix, tokens = operator.inputs
        if not (operator.type.batch and operator.type.cols == graph.tokens):
            return None
        for split in identity_plus(builder, matrix):
            if split.left == (tokens,) and split.right == (transposed(builder, tokens),):
                return builder.add(Operator("gram_solve", (tokens,), operator.type, ((split.shift, split.scale),)))
        return None

    return rebuild(graph, rule)
