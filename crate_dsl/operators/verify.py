"""The contract of passes: a graph means the same before and after, at random points with sizes of no symmetry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import sympy
from sympy.utilities.iterables import connected_components

import crate_dsl.library.arrays as np
from crate_dsl.language.model import ONE
from crate_dsl.operators.graph import Graph, Operator
from crate_dsl.operators.interpret import Inputs, interpret

TOLERANCE = 1e-10
BATCH = 2
DISTINCT = (5, 7, 3, 11, 4, 6, 8, 9, 10, 12)  # no two axes alike, so that a transposition cannot hide


def pass_error(before: Graph, after: Graph) -> float:
    """The largest relative error of what passes made of a graph, both interpreted on the same random inputs."""
    sizes = distinct_sizes(before)
    before, after = replace(before, sizes=sizes), replace(after, sizes=sizes)
    inputs = random_inputs(before)
    wanted, found = interpret(before, inputs), interpret(after, inputs)
    if wanted.keys() != found.keys():
        return float("inf")
    return largest(relative_error(found[name], value) for name, value in wanted.items())


def largest(errors: Iterable[float]) -> float:
    """One that is not a number included, which `max` may pass over."""
    return float(np.max(list(errors)))


def relative_error(found: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference of entries, relative to the largest entry; infinite where the shapes differ."""
    if np.broadcast_shapes(found.shape, wanted.shape) != np.broadcast_shapes(wanted.shape):
        return float("inf")
    undefined = np.isnan(found) & np.isnan(wanted)  # in both, as the logarithm of a negative random number
    infinite = np.isinf(wanted) & (found == wanted)  # likewise 1 / (d - 7), where the random size is 7
    error = np.where(undefined | infinite, 0.0, np.abs(found - wanted))
    scale = np.where(np.isfinite(wanted), np.abs(wanted), 0.0).max()
    return float(error.max() / max(scale, 1e-300))


def distinct_sizes(graph: Graph) -> dict[str, int]:
    """A small size for every axis, all different, but equal for axes that a sum makes equal (a dropped adjoint).

    Others are taken where a number would have no value, as 1 / (d - 7) where d is 7, also by way of held numbers.
    """
    turned = (DISTINCT[n:] + DISTINCT[:n] for n in range(len(DISTINCT)))
    choices = [_sizes(graph, choice) for choice in turned]
    defined = [sizes for sizes in choices if _defined(graph, sizes)] or choices[:1]
    if not graph.operators("formula"):
        return defined[0]
    return next((sizes for sizes in defined if _finite(replace(graph, sizes=sizes))), defined[0])


def _finite(graph: Graph) -> bool:
    """Whether what a graph makes of random inputs is finite."""
    with np.errstate(all="ignore"):
        return all(np.isfinite(value).all() for value in interpret(graph, random_inputs(graph)).values())


def _defined(graph: Graph, sizes: Mapping[str, int]) -> bool:
    symbols = (symbol for symbol in coefficient_symbols(graph) if symbol.name in sizes)
    known = {symbol: sympy.Integer(sizes[symbol.name]) for symbol in symbols}
    values = (value for number in graph for value in _expressions(graph[number].attributes))
    return not any(value.xreplace(known).has(sympy.zoo, sympy.nan, sympy.I) for value in values)


def _sizes(graph: Graph, choice: tuple[int, ...]) -> dict[str, int]:
    equal: list[tuple[str, str]] = []
    for number in graph:
        operator = graph[number]
        if operator.kind in ("combine", "function"):
            for source in operator.inputs:
                equal.append((operator.type.rows, graph[source].type.rows))
                equal.append((operator.type.cols, graph[source].type.cols))
    sizes = dict(graph.sizes)
    axes = sorted(set(_axes(graph)))
    groups = sorted(connected_components((axes, equal)), key=lambda group: (graph.tokens in group, min(group)))
    for group, size in zip(groups, choice, strict=False):
        fixed = [int(axis) for axis in group if axis.isdigit()]
        sizes |= {axis: fixed[0] if fixed else size for axis in group if not axis.isdigit()}
    return sizes


def _axes(graph: Graph) -> Iterator[str]:
    for number in graph:
        kind = graph[number].type
        yield from {kind.rows, kind.cols, kind.family or ONE}


def random_inputs(graph: Graph, seed: int = 0, given: Mapping[str, np.ndarray] | None = None) -> Inputs:
    """Random leaves, and positive random scalars."""
    rng = np.random.default_rng(seed)
    matrices = {}
    for number in graph:
        operator = graph[number]
        if operator.kind in ("input", "parameter"):
            kind = operator.type
            front = (BATCH,) if kind.batch else (graph.size(kind.family),) if kind.family else ()
            matrices[operator.attributes[0]] = rng.normal(size=(*front, graph.size(kind.rows), graph.size(kind.cols)))
    scalars = {}
    for symbol in sorted(coefficient_symbols(graph), key=str):
        name, _, family = symbol.name.partition("[")
        if name not in graph.sizes:
            scalars[name] = rng.uniform(0.2, 0.8, size=graph.size(family[:-1]) if family else None)
    return Inputs({**matrices, **(given or {})}, scalars)


def coefficient_symbols(graph: Graph) -> set[sympy.Symbol]:
    """Every scalar symbol in the attributes of a graph."""
    found: set[sympy.Symbol] = set()
    for number in graph:
        found |= symbols_of(graph[number])
    return found


def symbols_of(operator: Operator) -> set[sympy.Symbol]:
    """The scalar symbols of one operator, but for those that stand for its inputs."""
    symbols = set().union(*(value.free_symbols for value in _expressions(operator.attributes)))
    return {symbol for symbol in symbols if not symbol.name.startswith("#")}


def _expressions(attributes: tuple) -> Iterator[sympy.Expr]:
    for attribute in attributes:
        if isinstance(attribute, sympy.Expr):
            yield attribute
        elif isinstance(attribute, tuple):
            yield from _expressions(attribute)
        elif hasattr(attribute, "pieces"):
            for piece in attribute.pieces:
                yield from (piece.lower, piece.upper, piece.slope, piece.intercept)
