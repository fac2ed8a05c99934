"""`sum_k U_k X_k` is one product of stacked heads: `[U_1 .. U_K] [X_1; ..; X_K]`."""

from __future__ import annotations

from crate_dsl.operators.build import combine, terms_of
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import IDENTITY, Builder, Graph, Operator, coefficient_family
from crate_dsl.operators.rewrite import rebuild
from crate_dsl.operators.weights import Weights


def merge(graph: Graph, workload: Workload) -> Graph:
    """Merge every sum of a learned family times values; a weight per head goes to the value.

    What is made of frozen weights once is stored as learned families are.
    """

    def rule(builder: Builder, operator: Operator) -> int | None:
        return _merged(builder, operator, workload.frozen) if operator.kind == "family_sum" else None

    return rebuild(graph, rule)


def _merged(builder: Builder, operator: Operator, frozen: bool) -> int | None:
    terms = terms_of(builder, operator.inputs[0])
    inner = builder[terms[0][1]]
    if len(terms) > 1 or inner.kind != "product" or len(inner.inputs) != 2:
        return None
    left, right = inner.inputs
    families = all(builder.type(n).family for n in (left, right))
    stored = builder[left].kind == "parameter" or (frozen and Weights(builder).fold(left))
    if not stored or not families or not builder.type(right).batch:
        return None
    weight = terms[0][0]
    plain = (IDENTITY,) if builder[left].attributes[1:] == (IDENTITY,) else ()  # heads beside each other, no product
    if coefficient_family(weight):
        return builder.add(Operator("merged", (left, combine(builder, [(weight, right)])), operator.type, plain))
    return combine(builder, [(weight, builder.add(Operator("merged", (left, right), operator.type, plain)))])
