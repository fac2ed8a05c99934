"""Recognise attention: `V softmax(s K' Q)` is one fused operator, which never stores the N x N matrix.

A softmax that is read elsewhere too, as in `V A + V A'`, is stored anyway: there the cost decides, after the sums have
been gathered and factored, for `V (A + A')` takes one product where the fused operator leaves two and their scores.
"""

from __future__ import annotations

from crate_dsl.operators.build import factors_of, joined, product, terms_of, transposed
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes.factor import factor
from crate_dsl.operators.passes.gather import gather
from crate_dsl.operators.rewrite import rebuild


def attention(graph: Graph, workload: Workload) -> Graph:
    """Fuse every column-wise softmax of one product of tokens with the value on its left, unless that costs more."""
    fused = _all_fused(graph)
    stored = any(fused[n].attributes[0] == "softmax" for n in fused.operators("function"))
    if fused.operators("attention") and stored and _settled(graph, workload) < _settled(fused, workload):
        return graph
    return fused


def _settled(graph: Graph, workload: Workload) -> float:
    """The cost after the passes that join what the two ways of reading a softmax have in common."""
    return price(factor(gather(graph, workload), workload), workload)


def _all_fused(graph: Graph) -> Graph:
    def rule(builder: Builder, operator: Operator) -> int | None:
        if operator.kind != "product":
            return None
        factors = list(operator.inputs)
        for place in range(len(factors) - 1, 0, -1):
            fused = _fused(builder, factors[place - 1], factors[place], graph.tokens)
            if fused is not None:
                factors[place - 1 : place + 1] = [fused]
        return product(builder, factors) if len(factors) < len(operator.inputs) else None

    return rebuild(graph, rule)


def _fused(builder: Builder, value: int, weights: int, tokens: str) -> int | None:
    kind, operator = builder.type(value), builder[weights]
    if operator.kind != "function" or operator.attributes[0] != "softmax" or not kind.batch or kind.cols != tokens:
        return None
    terms = terms_of(builder, operator.inputs[0])
    factors = factors_of(builder, terms[0][1])
    if len(terms) > 1 or len(factors) < 2:
        return None
    key, query = transposed(builder, factors[0]), product(builder, factors[1:])
    if not all(builder.type(n).batch and builder.type(n).cols == tokens for n in (key, query)):
        return None
    kinds = [builder.type(n) for n in (value, key, query)]
    result = joined(kinds, kinds[0].rows, kinds[2].cols)
    return builder.add(Operator("attention", (value, key, query), result, (terms[0][0],)))
