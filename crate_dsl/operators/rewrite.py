"""The engine of passes: rebuild a graph, offering every operator to a rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from crate_dsl.operators.build import combine
from crate_dsl.operators.graph import FIRST, Builder, Graph, Operator

# Given the new graph so far and an operator whose inputs are numbers in it: the number that replaces it, or None.
Rule = Callable[[Builder, Operator], int | None]


def rebuild(graph: Graph, rule: Rule) -> Graph:
    """The graph with every operator replaced by what the rule makes of it, inputs first.

    Where that changes nothing it is the graph itself, whose cost is remembered.
    """
    builder = Builder(graph.name, graph.sizes, graph.tokens, graph.causal)
    numbers: dict[int, int] = {}
    for number in graph:
        operator = graph[number]
        operator = operator.on(tuple(numbers[n] for n in operator.inputs))
        made = rule(builder, operator)
        numbers[number] = _added(builder, operator) if made is None else made
    if all(old == new and graph[old] == builder[new] for old, new in numbers.items()):
        return graph
    return builder.graph(tuple((name, numbers[n]) for name, n in graph.outputs))


def rebuild_one(graph: Graph, number: int, rule: Rule) -> Graph:
    """The graph with one operator alone offered to the rule."""
    place = iter(graph)
    return rebuild(graph, lambda builder, operator: rule(builder, operator) if next(place) == number else None)


def _added(builder: Builder, operator: Operator) -> int:
    """The operator itself; a sum is built anew, since a rule may have left it a scaled value among its inputs."""
    if operator.kind != "combine":
        return builder.add(operator)
    return combine(builder, operator.terms, operator.type.rows, operator.type.cols)


def of_one_token(graph: Graph) -> Graph:
    """The graph with the axis of one token in the place of that of all."""
    builder = Builder(graph.name, {**graph.sizes, FIRST: 1}, FIRST, graph.causal)
    numbers: dict[int, int] = {}
    for number in graph:
        operator, kind = graph[number], graph[number].type
        rows, cols = (FIRST if axis == graph.tokens else axis for axis in (kind.rows, kind.cols))
        inputs = tuple(numbers[n] for n in operator.inputs)
        numbers[number] = builder.add(replace(operator, inputs=inputs, type=replace(kind, rows=rows, cols=cols)))
    return builder.graph(tuple((name, numbers[n]) for name, n in graph.outputs))


def copied(graph: Graph) -> tuple[Builder, dict[int, int]]:
    """A builder that holds the graph, with the new number of every operator."""
    builder = Builder(graph.name, graph.sizes, graph.tokens, graph.causal)
    numbers: dict[int, int] = {}
    for number in graph:
        operator = graph[number]
        numbers[number] = builder.add(operator.on(tuple(numbers[n] for n in operator.inputs)))
    return builder, numbers
