"""The backward pass of a matrix made of weights, derived like the forward pass and made fast by the same passes.

Of `M = I + eta D' - eta D'D` with the gradient G, reverse mode gives `eta G' - eta D G' - eta D G` for D. The passes
take D out of both products, so that one is left where automatic differentiation multiplies twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import sympy

from crate_dsl.library.scalars import base_name
from crate_dsl.operators.build import combine, product, terms_of, transposed
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes import optimise_graph
from crate_dsl.operators.rewrite import copied
from crate_dsl.operators.verify import coefficient_symbols

GRADIENT = "#gradient"  # the leaf for the gradient of the output; no spec can name it
one = sympy.Integer(1)
DIFFERENTIABLE = {"parameter", "identity", "transpose", "product", "combine"}


def collected(graph: Graph) -> Iterator[int]:
    """The matrices of weights that tokens are multiplied by: a sum made once per forward pass."""
    for number in graph.operators("combine"):
        users = [graph[user] for user in graph.users(number)]
        if not graph[number].type.batch and any(u.kind in ("product", "affine") and u.type.batch for u in users):
            yield number


def own_graph(graph: Graph, number: int) -> Graph:
    """What one value is made of, as a graph."""
    return graph.giving((("M", number),))


def adjoint(graph: Graph, learned: Collection[str], workload: Workload) -> Graph | None:
    """The gradient of the one learned matrix that a value is made of, from that of the value.

    None where reverse mode as such costs no more, and where there is more to differentiate than one matrix: several, or
    a learned scalar.
    """
    parameters = graph.operators("parameter")
    scalars = {base_name(symbol) for symbol in coefficient_symbols(graph)}
    known = all(graph[n].kind in DIFFERENTIABLE and not graph[n].type.family for n in graph)
    if len(parameters) != 1 or not known or scalars & set(learned):
        return None
    derived = _reversed(graph, parameters[0])
    fast = optimise_graph(derived, workload)
    return fast if price(fast, workload) < price(derived, workload) else None


def _reversed(graph: Graph, parameter: int) -> Graph:
    """Reverse mode: every operator hands the gradient of its value on to its inputs."""
    builder, numbers = copied(graph)
    start = builder.add(Operator("parameter", (), graph[graph.output].type, (GRADIENT,)))
    gradients = {graph.output: [(one, start)]}
    for number in reversed(list(graph)):
        if number in gradients and number != parameter:
            total = combine(builder, gradients[number])
            for source, term in _handed_on(builder, graph[number], [numbers[n] for n in graph[number].inputs], total):
                gradients.setdefault(source, []).append(term)
    kind = graph[parameter].type
    result = combine(builder, gradients[parameter], kind.rows, kind.cols)
    return builder.graph((("gradient", result),))


def _handed_on(
    builder: Builder, operator: Operator, inputs: list[int], gradient: int
) -> Iterator[tuple[int, tuple[sympy.Expr, int]]]:
    """Inputs by their old numbers, with the terms that each gets: sums stay flat, so that factoring sees all terms."""
    for coefficient, term in terms_of(builder, gradient):
        match operator.kind:
            case "combine":
                for weight, source in operator.terms:
                    yield source, (coefficient * weight, term)
            case "transpose":
                yield operator.inputs[0], (coefficient, transposed(builder, term))
            case "product":
                for place, source in enumerate(operator.inputs):
                    left = [transposed(builder, n) for n in reversed(inputs[:place])]
                    right = [transposed(builder, n) for n in reversed(inputs[place + 1 :])]
                    yield source, (coefficient, product(builder, [*left, term, *right], flat=True))
