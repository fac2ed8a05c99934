"""Share the products that occur more than once, also transposed: `U'Z` in `U (U'Z) softmax((U'Z)' (U'Z))`."""

from __future__ import annotations

from collections import Counter

from crate_dsl.operators.build import product, transposed
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.rewrite import copied, rebuild

STRAIGHT, TURNED, SYMMETRIC = 0, 1, 2
Value = tuple[int, int]  # a value up to transposition, and how it stands
Pair = tuple[Value, Value]


def share(graph: Graph, workload: Workload) -> Graph:
    """Give the most frequent adjacent pair of factors a value of its own, as long as that costs less."""
    while (better := _shared_once(graph, workload)) is not None:
        graph = better
    return graph


def _shared_once(graph: Graph, workload: Workload) -> Graph | None:
    values = _values(graph)
    counts = Counter(_canonical(pair) for n in graph.operators("product") for pair in _pairs(graph, n, values))
    now = price(graph, workload)
    for pair, count in counts.most_common():
        if count < 2:
            return None
        candidate = _with(graph, _upright(graph, pair, values), values)
        if price(candidate, workload) < now:
            return candidate
    return None


def _values(graph: Graph) -> dict[int, Value]:
    builder, numbers = copied(graph)
    found: dict[int, Value] = {}
    known: dict[int, int] = {}
    for old, number in numbers.items():
        other = transposed(builder, number, known)
        stand = SYMMETRIC if number == other else TURNED if number > other else STRAIGHT
        found[old] = (min(number, other), stand)
    return found


def _pairs(graph: Graph, number: int, values: dict[int, Value]) -> list[Pair]:
    inputs = [values[n] for n in graph[number].inputs]
    return list(zip(inputs, inputs[1:], strict=False))


def _turned(pair: Pair) -> Pair:
    turn = {STRAIGHT: TURNED, TURNED: STRAIGHT, SYMMETRIC: SYMMETRIC}
    (a, at), (b, bt) = pair
    return (b, turn[bt]), (a, turn[at])


def _canonical(pair: Pair) -> Pair:
    return min(pair, _turned(pair))


def _upright(graph: Graph, pair: Pair, values: dict[int, Value]) -> Pair:
    """The orientation in which tokens are columns, if either is: `U'Z`, not `Z'U`."""
    last = {values[n]: graph[n].type.cols for n in graph}
    return _turned(pair) if last.get(pair[1]) != graph.tokens and last.get(_turned(pair)[1]) == graph.tokens else pair


def _with(graph: Graph, pair: Pair, values: dict[int, Value]) -> Graph:
    """The graph in which the pair, wherever it stands, is one value or that value transposed."""
    place = iter(graph)

    def rule(builder: Builder, operator: Operator) -> int | None:
        old = graph[next(place)]
        if operator.kind != "product":
            return None
        return product(builder, _replaced(builder, operator.inputs, [values[n] for n in old.inputs], pair))

    return rebuild(graph, rule)


def _replaced(builder: Builder, inputs: tuple[int, ...], values: list[Value], pair: Pair) -> list[int]:
    result, place = [], 0
    while place < len(inputs):
        here = tuple(values[place : place + 2])
        if here == pair:
            result.append(product(builder, inputs[place : place + 2]))
        elif len(here) == 2 and _turned(here) == pair:
            straight = [transposed(builder, n) for n in reversed(inputs[place : place + 2])]
            result.append(_transpose_of(builder, product(builder, straight)))
        else:
            result.append(inputs[place])
            place -= 1
        place += 2
    return result


def _transpose_of(builder: Builder, number: int) -> int:
    """The transpose of the shared value itself, not moved to its factors."""
    operator = builder[number]
    return builder.add(Operator("transpose", (number,), operator.type.T))
