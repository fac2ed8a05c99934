"""Take log-determinants on the smaller side: `logdet(c I_n + s B A) = logdet(c I_m + s A B) + (n - m) log c`."""

from __future__ import annotations

from functools import partial

import sympy

from crate_dsl.library.scalars import size
from crate_dsl.operators.build import combine, constant
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes.identity_plus import identity_plus
from crate_dsl.operators.rewrite import rebuild_one

one = sympy.Integer(1)


def sylvester(graph: Graph, workload: Workload) -> Graph:
    """Swap the sides of every log-determinant for which that costs less."""
    for number in graph.operators("logdet"):
        candidate = rebuild_one(graph, number, partial(_swapped, graph))
        if price(candidate, workload) < price(graph, workload):
            return sylvester(candidate, workload)
    return graph


def _swapped(graph: Graph, builder: Builder, operator: Operator) -> int | None:
    """The log-determinant on the smallest other side that its matrix has."""
    matrices = identity_plus(builder, operator.inputs[0])
    matrix = min(matrices, key=lambda each: graph.size(builder.type(each.right[0]).rows), default=None)
    if matrix is None:
        return None
    other = matrix.swapped(builder)
    result = builder.add(Operator("logdet", (other,), operator.type, operator.attributes))
    if matrix.shift == 1:
        return result
    large, small = builder.type(operator.inputs[0]).rows, builder.type(other).rows
    rest = (size(large) - size(small)) * sympy.log(matrix.shift)
    return combine(builder, [(one, result), (one, constant(builder, rest))])
