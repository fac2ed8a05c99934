"""Which operators must not run in half precision: solves, log-determinants, and the small matrices that they read."""

from __future__ import annotations

from collections.abc import Iterator

import networkx as nx

from crate_dsl.operators.graph import Graph, Operator

PRECISE = {"solve", "gram_solve", "inverse", "logdet", "prefix_solve"}


def precise_regions(graph: Graph) -> Iterator[set[int]]:
    """Connected groups of operators around solves and log-determinants, up to the products that read weights."""
    inside: set[int] = set()
    stack = [n for n in graph if graph[n].kind in PRECISE]
    while stack:
        number = stack.pop()
        operator = graph[number]
        if number in inside or not _joins(graph, operator):
            continue
        inside.add(number)
        inputs = operator.inputs[:1] if operator.kind == "solve" else operator.inputs
        stack += [source_of(graph, n) for n in inputs]
    linked = nx.Graph()
    linked.add_nodes_from(inside)
    linked.add_edges_from(
        (source_of(graph, n), m) for m in inside for n in graph[m].inputs if source_of(graph, n) in inside
    )
    yield from nx.connected_components(linked)


def source_of(graph: Graph, number: int) -> int:
    """The value behind transposes."""
    operator = graph[number]
    return source_of(graph, operator.inputs[0]) if operator.kind == "transpose" else number


def _joins(graph: Graph, operator: Operator) -> bool:
    """Leaves stay outside, and so do products of tokens with weights: those are fast in half precision."""
    if not operator.inputs or operator.kind in ("attention", "merged", "affine", "prox"):
        return operator.kind in PRECISE
    mixed = {graph[n].type.batch for n in operator.inputs if graph[n].kind not in ("identity", "ones")}
    return operator.kind != "product" or len(mixed) == 1
