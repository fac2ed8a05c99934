"""The numpy meaning of a graph, in float64: the oracle that every pass and the written file are checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import sympy

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
    length = graph.sizes[graph.tokens]
    found = [_whole(*prefix(graph, inputs, count)) for count in range(1, length + 1)]
    return {name: np.concatenate([values[name][..., -1:] for values in found], axis=-1) for name in found[0]}


def prefix(graph: Graph, inputs: Inputs, count: int) -> tuple[Graph, Inputs]:
    """The graph and its inputs with the first tokens only, whatever has their axis cut."""
    matrices = dict(inputs.matrices)
    for kind, name in ((graph[n].type, graph[n].attributes[0]) for k in LEAVES for n in graph.operators(k)):
        for place, axis in ((-2, kind.rows), (-1, kind.cols)):
            if axis == graph.tokens:
                matrices[name] = np.take(np.asarray(matrices[name]), range(count), axis=place)
    sizes = {**graph.sizes, graph.tokens: count}
    return replace(graph, sizes=sizes, causal=False), replace(inputs, matrices=matrices)


def _whole(graph: Graph, inputs: Inputs) -> dict[str, np.ndarray]:
    numbers = numbers_of(graph, inputs)
    values: dict[int, np.ndarray] = {}
    for number in graph:
        operator = graph[number]
        if operator.kind in LEAVES:
            values[number] = _leaf(inputs.matrices[operator.attributes[0]], operator.type.batch)
        else:
            arguments = [values[n] for n in operator.inputs]
            values[number] = KINDS[operator.kind].value(operator, arguments, numbers, graph.size)
    return {name: values[n] for name, n in graph.outputs}


def _leaf(value: np.ndarray, batch: bool) -> np.ndarray:
    value = np.asarray(value, dtype=float)
    return value.reshape((1,) * (4 - value.ndim) + value.shape) if not batch else value[:, None]


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
        return np.asarray(sympy.lambdify(symbols, coefficient, "numpy")(*map(lookup, symbols)), dtype=float)

    return numbers
