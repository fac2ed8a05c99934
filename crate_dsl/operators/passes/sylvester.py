"""Take log-determinants on the smaller side: `logdet(c I_n + s B A) = logdet(c I_m + s A B) + (n - m) log c`."""

from __future__ import annotations

import sympy

from crate_dsl.library.scalars import size
from crate_dsl.operators.build import combine, constant
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes.identity_plus import IdentityPlus, identity_plus
from crate_dsl.operators.rewrite import Rule, rebuild

one = sympy.Integer(1)


def sylvester(graph: Graph, workload: Workload) -> Graph:
    """Swap the sides of every log-determinant for which that costs less."""
    for number in graph.operators("logdet"):
        candidate = rebuild(graph, _swap(graph, number))
        if price(candidate, workload) < price(graph, workload):
            return sylvester(candidate, workload)
    return graph


def _swap(graph: Graph, number: int) -> Rule:
    place = iter(graph)

    def rule(builder: Builder, operator: Operator) -> int | None:
        if next(place) != number:
            return None
        matrices = list(identity_plus(builder, operator.inputs[0]))
        if not matrices:
            return None
        smallest = min(matrices, key=lambda matrix: graph.size(builder.type(matrix.right[0]).rows))
        return _swapped(builder, operator, smallest)

    return rule


def _swapped(builder: Builder, operator: Operator, matrix: IdentityPlus) -> int:
    other = matrix.swapped(builder)
    result = builder.add(Operator("logdet", (other,), operator.type, operator.attributes))
    if matrix.shift == 1:
        return result
    large, small = builder.type(operator.inputs[0]).rows, builder.type(other).rows
    rest = (size(large) - size(small)) * sympy.log(matrix.shift)
    return combine(builder, [(one, result), (one, constant(builder, rest))])
