"""The normed tokens that a step reads, opened: `norm(Z) = Diag(weight) X + bias 1'`, X normalised and nothing more."""

from __future__ import annotations

from collections.abc import Sequence

import sympy

from crate_dsl.language.model import ONE
from crate_dsl.mathematics.derivation import DerivedStep
from crate_dsl.operators.build import combine, diagonal, ones, product, transposed
from crate_dsl.operators.graph import Builder, Graph, Operator, Type
from crate_dsl.operators.rewrite import rebuild

WEIGHT, BIAS = "norm.weight", "norm.bias"  # no name of a spec has a dot
one = sympy.Integer(1)


def normalised(step: DerivedStep) -> str:
    """The input that holds the tokens normalised, without the affine part of the norm."""
    return f"normalised({step.raw.name})"


def opened(graph: Graph, step: DerivedStep) -> Graph:
    """The graph with the normed tokens as a quantity that passes may look into."""

    def rule(builder: Builder, operator: Operator) -> int | None:
        if not _is_read(operator, "input", step):
            return None
        tokens = builder.add(Operator("input", (), operator.type, (normalised(step),)))
        weight, bias = (builder.add(Operator("parameter", (), Type(step.read.rows, ONE), (n,))) for n in (WEIGHT, BIAS))
        row = transposed(builder, ones(builder, operator.type.cols))
        scaled = product(builder, (diagonal(builder, weight), tokens))
        value = combine(builder, [(one, scaled), (one, product(builder, (bias, row)))])
        return builder.add(Operator("quantity", (value,), operator.type, (step.read.name,)))

    return rebuild(graph, rule) if step.read != step.raw else graph


def reads_whole(graphs: Sequence[Graph], step: DerivedStep) -> bool:
    """Whether an opened norm is read as a whole all the same."""
    return any(_is_read(graph[n], "quantity", step) for graph in graphs for n in graph)


def _is_read(operator: Operator, kind: str, step: DerivedStep) -> bool:
    return operator.kind == kind and operator.attributes == (step.read.name,)
