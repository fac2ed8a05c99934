"""Biases belong to the product before them: `F.linear` and `addmm` add them at no further pass over memory."""

from __future__ import annotations

from dataclasses import replace

import sympy

from crate_dsl.language.model import ONE
from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.operators.build import combine, terms_of
from crate_dsl.operators.graph import Builder, Graph, Operator, Type
from crate_dsl.operators.rewrite import rebuild

oo, zero, one = sympy.oo, sympy.Integer(0), sympy.Integer(1)


def fold_bias(graph: Graph, batch: int) -> Graph:
    """`U X + b 1'` is one affine map, and `relu(M v - t)` one with the constant bias -t."""

    def rule(builder: Builder, operator: Operator) -> int | None:
        match operator.kind:
            case "product":
                return _column(builder, operator, graph.tokens)
            case "combine":
                return _added(builder, operator)
            case "prox":
                return _thresholded(builder, operator)
        return None

    return rebuild(graph, rule)


def _column(builder: Builder, operator: Operator, tokens: str) -> int | None:
    """`b 1'`: one column for every token."""
    left, right = operator.inputs
    turned = builder[right]
    if turned.kind != "transpose" or builder[turned.inputs[0]].kind != "ones" or turned.type.cols != tokens:
        return None
    return builder.add(Operator("column", (left,), builder.type(left).of(builder.type(left).rows, tokens)))


def _added(builder: Builder, operator: Operator) -> int | None:
    """A column goes into a product that has the same coefficient."""
    terms = terms_of(builder, builder.add(operator))
    columns = [term for term in terms if builder[term[1]].kind == "column"]
    for coefficient, column in columns:
        for other, number in terms:
            if other == coefficient and _takes_bias(builder, number):
                closed = _closed(builder, number, column)
                kept = [(c, closed if n == number else n) for c, n in terms if n != column]
                return combine(builder, kept, operator.type.rows, operator.type.cols)
    return None


def _takes_bias(builder: Builder, number: int) -> bool:
    operator = builder[number]
    if operator.kind == "merged":
        return len(operator.inputs) == 2
    return operator.kind == "product" and _is_map(builder, operator)


def _is_map(builder: Builder, operator: Operator) -> bool:
    """A matrix of weights times tokens."""
    left, right = (builder.type(n) for n in operator.inputs)
    return not left.batch and not left.family and right.batch and not right.family


def _closed(builder: Builder, number: int, column: int) -> int:
    operator = builder[number]
    kind = "merged" if operator.kind == "merged" else "affine"
    return builder.add(replace(operator, kind=kind, inputs=(*operator.inputs, column)))


def _thresholded(builder: Builder, operator: Operator) -> int | None:
    """`relu(M v - t)` with the threshold in the product's bias."""
    prox, target = operator.attributes
    threshold = relu_threshold(prox)
    source = builder[operator.inputs[0]]
    if threshold is None or threshold == 0 or source.kind != "product" or not _is_map(builder, source):
        return None
    rows, cols = source.type.rows, source.type.cols
    bias = builder.add(Operator("fill", (), Type(rows, ONE), (-threshold,)))
    column = builder.add(Operator("column", (bias,), Type(rows, cols)))
    shifted = _closed(builder, operator.inputs[0], column)
    relu = Prox((Piece(-oo, zero, zero, zero), Piece(zero, oo, one, zero)))
    return builder.add(Operator("prox", (shifted,), operator.type, (relu, target)))


def relu_threshold(prox: Prox) -> sympy.Expr | None:
    """t where the map is `max(v - t, 0)`."""
    if len(prox.pieces) != 2:
        return None
    low, high = prox.pieces
    if (low.slope, low.intercept, high.slope) != (0, 0, 1) or sympy.expand(high.intercept + high.lower) != 0:
        return None
    return high.lower
