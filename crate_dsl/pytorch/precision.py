"""Which operators must not run in half precision, with what they read up to the products with weights.

Solves and log-determinants; and sums that run over tokens, which grow, while what is added does not. At the first token
such a sum is that token alone, and gradients cancel that half precision would round apart.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from sympy.utilities.iterables import connected_components

from crate_dsl.operators.graph import Graph, Operator

SOLVES = {"solve", "gram_solve", "inverse", "logdet", "prefix_solve"}
PRECISE = SOLVES | {"cumulative", "causal_product", "prefix_unit_rows"}
MADE = {"identity", "ones", "zero", "constant", "fill"}  # leaves that a block makes in its own precision


def precise_regions(graph: Graph) -> list[set[int]]:
    """Connected groups of operators around these operators, up to the products that read weights.

    A group holds all that lies between its values, so that what it reads is never made of them.
    """
    inside = _around(graph)
    while True:
        regions = _connected(graph, inside)
        between = set[int]().union(*(_between(graph, region) for region in regions))
        if between <= inside:
            return regions
        inside |= between


def _around(graph: Graph) -> set[int]:
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
    return inside | {n for n in graph.operators("quantity") if source_of(graph, graph[n].inputs[0]) in inside}  # a name


def _connected(graph: Graph, inside: set[int]) -> list[set[int]]:
    pairs = [(source_of(graph, n), m) for m in inside for n in graph[m].inputs if source_of(graph, n) in inside]
    return list(map(set, connected_components((sorted(inside), pairs))))


def _between(graph: Graph, region: set[int]) -> set[int]:
    """What is made of values of a region and goes into others of it."""
    return {n for n in graph.made_of(region) & graph.needed_for(region) if graph[n].kind != "transpose"}


def wide_values(graph: Graph, regions: Iterable[set[int]]) -> set[int]:
    """Values of these regions, and what is made of them."""
    wide: set[int] = set().union(*regions)
    for number in graph:
        if stays_wide(graph, graph[number], wide):
            wide.add(number)
    return wide


def stays_wide(graph: Graph, operator: Operator, wide: Container[int]) -> bool:
    """Whether an operator on values of full precision gives one: a product only where it reads nothing else."""
    found = [source_of(graph, n) in wide for n in operator.inputs]
    multiplies = operator.kind in ("product", "affine", "merged", "attention")
    if multiplies and not all(graph[n].type.is_scalar for n in operator.inputs):
        return all(found) and _joins(graph, operator)
    return any(found)


def read_by(graph: Graph, region: set[int]) -> list[int]:
    """The values that a region reads, leaves that are made in place left out."""
    sources = {source_of(graph, n) for inside in region for n in graph[inside].inputs}
    return sorted(n for n in sources - region if graph[n].kind not in MADE)


def readers(graph: Graph, number: int) -> Iterator[int]:
    """The operators that read a value, also through transposes."""
    for user in graph.users(number):
        yield from readers(graph, user) if graph[user].kind == "transpose" else (user,)


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
