"""Gather the family sums of a sum into one: `sum_k U_k A_k - sum_k U_k B_k` is `sum_k (U_k A_k - U_k B_k)`.

Factoring then takes U_k out, and one product is left of two.
"""

from __future__ import annotations

import sympy

from crate_dsl.operators.build import combine, family_sum, terms_of
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes.factor import factored_price
from crate_dsl.operators.rewrite import rebuild


def gather(graph: Graph, workload: Workload) -> Graph:
    """Join sums over one family, where factoring them together costs less."""
    candidate = rebuild(graph, _rule)
    return candidate if factored_price(candidate, workload) < factored_price(graph, workload) else graph


def _rule(builder: Builder, operator: Operator) -> int | None:
    if operator.kind != "combine":
        return None
    sums = [(c, n) for c, n in operator.terms if builder[n].kind == "family_sum"]
    families = {builder.type(builder[n].inputs[0]).family for _, n in sums}
    if len(sums) < 2 or len(families) > 1:
        return None
    inner = [(c * b, m) for c, n in sums for b, m in terms_of(builder, builder[n].inputs[0])]
    joint = family_sum(builder, combine(builder, inner, operator.type.rows, operator.type.cols))
    kept = [term for term in operator.terms if term not in sums]
    return combine(builder, [*kept, (sympy.Integer(1), joint)], operator.type.rows, operator.type.cols)
