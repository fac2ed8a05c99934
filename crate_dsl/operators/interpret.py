"""The numpy meaning of a graph, in float64: the oracle that every pass and the written file are checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import sympy

import crate_dsl.library.arrays as np
from crate_dsl.operators import causal_kinds  # noqa: F401 (registers its kinds)
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.kinds import KINDS, Numbers

LEAVES = ("input", "parameter")


@dataclass(frozen=True)
class Inputs:
    """Numbers for the leaves: tokens (batch, rows, cols), families (K, rows, cols), matrices (rows, cols); and scalars.

    A scalar per head is an array (K,). Sizes come with the graph.
    """

    matrices: Mapping[str, np.ndarray]
    scalars: Mapping[str, float | np.ndarray]


def interpret(graph: Graph, inputs: Inputs) -> dict[str, np.ndarray]:
    """The outputs by name, each with the axes (batch or 1, family or 1, rows, cols).

    Of a causal graph, column t of an output is the last column of the graph read with tokens 1..t.
    """
    return _prefix_by_prefix(graph, inputs) if graph.causal else _whole(graph, inputs)


def _prefix_by_prefix(graph: Graph, inputs: Inputs) -> dict[str, np.ndarray]:
    """Quantities of tokens are held: what one holds for token t is computed from tokens 1..t, and stays."""
    held: dict[int, np.ndarray] = {}
    for number in graph.operators("quantity"):
        if graph.tokens in (graph[number].type.rows, graph[number].type.cols):
            held[number] = _last_of_prefixes(graph, inputs, number, held)
    return {name: _last_of_prefixes(graph, inputs, number, held) for name, number in graph.outputs}


def _last_of_prefixes(graph: Graph, inputs: Inputs, number: int, held: Mapping[int, np.ndarray]) -> np.ndarray:
    """The last columns of a value, or its last rows where tokens are rows, for every prefix."""
    place = -1 if graph[number].type.cols == graph.tokens else -2
    lengths = range(1, graph.sizes[graph.tokens] + 1)
    values = (_values(*prefix(graph, inputs, held, length))[number] for length in lengths)
    return np.concatenate([np.take(value, [-1], axis=place) for value in values], axis=place)


def prefix(
    graph: Graph, inputs: Inputs, held: Mapping[int, np.ndarray], count: int
) -> tuple[Graph, Inputs, Mapping[int, np.ndarray]]:
    """The graph, its inputs and what it holds with the first tokens only, whatever has their axis cut."""
    matrices = dict(inputs.matrices)
    for number in (n for kind in LEAVES for n in graph.operators(kind)):
        name = graph[number].attributes[0]
        matrices[name] = _cut(np.asarray(inputs.matrices[name]), graph, number, count)
    sizes = {**graph.sizes, graph.tokens: count}
    cut = {number: _cut(value, graph, number, count) for number, value in held.items()}
    return replace(graph, sizes=sizes, causal=False), replace(inputs, matrices=matrices), cut


def _cut(value: np.ndarray, graph: Graph, number: int, count: int) -> np.ndarray:
    for place, axis in ((-2, graph[number].type.rows), (-1, graph[number].type.cols)):
        if axis == graph.tokens:
            value = np.take(value, range(count), axis=place)
    return value


def _whole(graph: Graph, inputs: Inputs) -> dict[str, np.ndarray]:
    values = _values(graph, inputs, {})
    return {name: values[n] for name, n in graph.outputs}


def _values(graph: Graph, inputs: Inputs, held: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Every operator's value; what is held is not computed."""
    numbers = numbers_of(graph, inputs)
    values = dict(held)
    for number in (number for number in graph if number not in held):
        operator = graph[number]
        if operator.kind in LEAVES:
            values[number] = _leaf(inputs.matrices[operator.attributes[0]], operator.type.batch)
        else:
            arguments = [values[n] for n in operator.inputs]
            values[number] = KINDS[operator.kind].value(operator, arguments, numbers, graph.size)
    return values


def _leaf(value: np.ndarray, batch: bool) -> np.ndarray:
    value = np.asarray(value, dtype=float)
    if batch:  # (batch, rows, cols), or with the axis of a family
        return value if value.ndim == 4 else value[:, None]
    return value.reshape((1,) * (4 - value.ndim) + value.shape)


def numbers_of(graph: Graph, inputs: Inputs) -> Numbers:
    """Evaluates coefficients; one that holds a scalar per head becomes (1, K, 1, 1)."""

    def lookup(symbol: sympy.Symbol) -> np.ndarray:
        name, _, family = symbol.name.partition("[")
        value = inputs.scalars[name] if name in inputs.scalars else graph.sizes[name]
        return np.asarray(value, dtype=float).reshape((1, -1, 1, 1) if family else ())

    def numbers(coefficient: sympy.Expr) -> np.ndarray:
        symbols = sorted(coefficient.free_symbols, key=str)
        if not symbols:
            return np.asarray(float(coefficient))
        floats = sympy.N(coefficient, 17)  # numpy has no logarithm of a whole number of more than 64 bits
        return np.asarray(sympy.lambdify(symbols, floats, "numpy")(*map(lookup, symbols)), dtype=float)

    return numbers
