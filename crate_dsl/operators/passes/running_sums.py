"""Products masked to the past as running sums: `A triangle(B' V)` is `A_t B_t'` applied to column t of V.

Linear in the tokens, where the N x N matrix is not; what is kept from one token to the next is of fixed size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import sympy

from crate_dsl.operators.build import joined, ones, product, transposed
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator, Operators
from crate_dsl.operators.rewrite import rebuild_one

zero = sympy.Integer(0)
MADE = ("ones", "zero", "identity", "fill")


def with_running_sums(graph: Graph, workload: Workload) -> Graph:
    """`A triangle(B' V)` without the N x N matrix, wherever that costs less."""
    for candidate in _candidates(graph):
        if price(candidate, workload) < price(graph, workload):
            return with_running_sums(candidate, workload)
    return graph


def streaming(graph: Graph) -> Graph | None:
    """The graph without matrices among tokens, whatever it costs, so that it takes a text in parts.

    None where some stay.
    """
    for candidate in _candidates(graph):
        return streaming(candidate)
    among = (n for n in graph if graph[n].kind == "triangle" or (graph[n].kind in MADE and _is_read(graph, n)))
    return None if any(graph.tokens in (graph[n].type.rows, graph[n].type.cols) for n in among) else graph


def _is_read(graph: Graph, number: int) -> bool:
    """Whether a vector of ones, say, is more than the weights of a running sum."""
    return any(graph[user].kind != "cumulative" for user in graph.users(number))


def _candidates(graph: Graph) -> Iterator[Graph]:
    """The graph with running sums in the place of one triangle."""
    for number in graph.operators("product"):
        if _triangle(graph, graph[number].inputs) is not None:
            yield rebuild_one(graph, number, _with_sums)


def _triangle(operators: Operators, factors: Sequence[int]) -> int | None:
    """The place of the first factor `triangle(B' V)` with something on its left, B being narrower than the tokens."""
    for place in range(1, len(factors)):
        triangle = operators[factors[place]]
        if triangle.kind == "triangle" and triangle.attributes == (zero,):
            inner = operators[triangle.inputs[0]]
            if inner.kind == "product" and _after_weights(operators, inner).type.cols != operators.tokens:
                return place
    return None


def _after_weights(operators: Operators, inner: Operator) -> Operator:
    return operators[inner.inputs[_weights(operators, inner)]]


def _weights(operators: Operators, inner: Operator) -> int:
    """How many diagonal matrices a product begins with; they weigh the tokens, and may stand left of the triangle."""
    return next((n for n, factor in enumerate(inner.inputs[:-1]) if not operators[factor].type.diagonal), 0)


def _with_sums(builder: Builder, operator: Operator) -> int | None:
    """A product of which one triangle, with the factor on its left, is running sums."""
    factors = list(operator.inputs)
    place = _triangle(builder, factors)
    if place is None:
        return None
    triangle = builder[builder[factors[place]].inputs[0]]
    first = _weights(builder, triangle)
    left = product(builder, (factors[place - 1], *triangle.inputs[:first]))
    factors[place - 1 : place + 1] = [_sums(builder, left, triangle.inputs[first:])]
    return product(builder, factors)


def _sums(builder: Builder, left: int, inner: tuple[int, ...]) -> int:
    """`A triangle(b 1')` adds up columns, `A triangle(B' V)` products `A_t B_t'`."""
    right = product(builder, inner[1:])
    if right == transposed(builder, ones(builder, builder.tokens)):
        inputs, kind = (left, inner[0]), "cumulative"
    else:
        inputs, kind = (left, transposed(builder, inner[0]), right), "causal_product"
    kinds = [builder.type(n) for n in inputs]
    return builder.add(Operator(kind, inputs, joined(kinds, kinds[0].rows, builder.tokens)))
