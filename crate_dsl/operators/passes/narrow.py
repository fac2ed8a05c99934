"""Take factors without the family out of its sum: `sum_k Z Z' U_k U_k' Z` is `Z (Z' (sum_k U_k (U_k' Z)))`."""

from __future__ import annotations

from crate_dsl.operators.build import combine, family_sum, product, terms_of
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.rewrite import Rule, rebuild


def narrow(graph: Graph, workload: Workload) -> Graph:
    """Narrow sums from the left, from the right or from both sides, wherever that costs less."""
    sides = ((True, False), (False, True), (True, True))
    candidates = [graph, *(rebuild(graph, _rule(left, right)) for left, right in sides)]
    return min(candidates, key=lambda candidate: price(candidate, workload))


def _rule(left: bool, right: bool) -> Rule:
    def rule(builder: Builder, operator: Operator) -> int | None:
        if operator.kind != "family_sum":
            return None
        terms = terms_of(builder, operator.inputs[0])
        inner = builder[terms[0][1]]
        if len(terms) > 1 or inner.kind != "product":
            return None
        places = [n for n, factor in enumerate(inner.inputs) if builder.type(factor).family]
        if not places:
            return None
        first = places[0] if left else 0
        last = places[-1] + 1 if right else len(inner.inputs)
        middle = combine(builder, [(terms[0][0], product(builder, inner.inputs[first:last]))])
        return product(builder, [*inner.inputs[:first], family_sum(builder, middle), *inner.inputs[last:]])

    return rule
