"""Biases belong to the product before them: `F.linear` and `addmm` add them at no further pass over memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sympy

from crate_dsl.language.model import ONE
from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.operators.build import combine, ones, terms_of
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import Builder, Graph, Operator, Type
from crate_dsl.operators.passes.spread import broadcast
from crate_dsl.operators.rewrite import rebuild
from crate_dsl.operators.weights import Weights

oo, zero, one = sympy.oo, sympy.Integer(0), sympy.Integer(1)
RELU = Prox((Piece(-oo, zero, zero, zero), Piece(zero, oo, one, zero)))


def fold_bias(graph: Graph, workload: Workload) -> Graph:
    """`U X + b 1'` is one affine map, and `relu(M v - t)` one with the constant bias -t."""

    place = iter(graph)

    def rule(builder: Builder, operator: Operator) -> int | None:
        old = graph[next(place)]
        match operator.kind:
            case "product":
                return _column(builder, operator, graph.tokens)
            case "combine":
                inputs = zip(operator.inputs, old.inputs, strict=True)
                free = {new for new, n in inputs if len(graph.users(n)) == 1}
                return _added(builder, operator, free, workload.frozen)
            case "prox":
                alone = workload.frozen and len(graph.users(old.inputs[0])) == 1
                return (_rebiased(builder, operator) if alone else None) or _thresholded(builder, operator)
            case "broadcast":
                return broadcast(builder, operator.attributes[0], *operator.inputs)
        return None

    return rebuild(graph, rule)


def _column(builder: Builder, operator: Operator, tokens: str) -> int | None:
    """`b 1'`: one column for every token."""
    left, right = operator.inputs
    turned = builder[right]
    if turned.kind != "transpose" or builder[turned.inputs[0]].kind != "ones" or turned.type.cols != tokens:
        return None
    return builder.add(Operator("column", (left,), builder.type(left).of(builder.type(left).rows, tokens)))


def _added(builder: Builder, operator: Operator, free: set[int], frozen: bool) -> int | None:
    """A column goes into a product that has the same coefficient and that nothing else reads."""
    terms = terms_of(builder, builder.add(operator))
    columns = [term for term in terms if builder[term[1]].kind == "column"]
    for coefficient, column in columns:
        for other, number in terms:
            fits = number in free and _takes_bias(builder, number, frozen) and _fits(builder, number, column)
            if other == coefficient and fits:
                closed = _closed(builder, number, column)
                kept = [(c, closed if n == number else n) for c, n in terms if n != column]
                return combine(builder, kept, operator.type.rows, operator.type.cols)
    return None


def _fits(builder: Builder, number: int, column: int) -> bool:
    """A bias per head goes into a product per head, and no other; one per sample, into none."""
    kind = builder.type(column)
    return builder.type(number).family == kind.family and not kind.batch


def _takes_bias(builder: Builder, number: int, frozen: bool) -> bool:
    operator = builder[number]
    if operator.kind == "merged":
        return len(operator.inputs) == 2
    return operator.kind == "product" and _is_map(builder, operator, frozen)


def _is_map(builder: Builder, operator: Operator, frozen: bool = False) -> bool:
    """A matrix of weights, or a family of them side by side (what is made once is stored so), times tokens."""
    left, right = (builder.type(n) for n in operator.inputs)
    stored = frozen and Weights(builder).fold(operator.inputs[0])
    heads = left.family and not stored and not is_heads(builder[operator.inputs[0]], builder.__getitem__)
    return not left.batch and not heads and right.batch and not right.family


def is_heads(operator: Operator, at: Callable[[int], Operator]) -> bool:
    """Whether an operator is `U[k]'` of a learned family, which is stored stacked."""
    return operator.kind == "transpose" and bool(operator.type.family) and at(operator.inputs[0]).kind == "parameter"


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
    return builder.add(Operator("prox", (shifted,), operator.type, (RELU, target)))


def _rebiased(builder: Builder, operator: Operator) -> int | None:
    """`relu(M v + b - t)` with the threshold in the bias, which is then another constant one."""
    prox, target = operator.attributes
    threshold, source = relu_threshold(prox), builder[operator.inputs[0]]
    if threshold is None or threshold == 0 or source.kind not in ("affine", "merged") or len(source.inputs) != 3:
        return None
    bias = builder[source.inputs[2]]
    terms = [(one, bias.inputs[0]), (-threshold, ones(builder, source.type.rows))]
    column = builder.add(replace(bias, inputs=(combine(builder, terms),)))
    shifted = builder.add(replace(source, inputs=(*source.inputs[:2], column)))
    return builder.add(Operator("prox", (shifted,), operator.type, (RELU, target)))


def relu_threshold(prox: Prox) -> sympy.Expr | None:
    """t where the map is `max(v - t, 0)`."""
    if len(prox.pieces) != 2:
        return None
    low, high = prox.pieces
    if (low.slope, low.intercept, high.slope) != (0, 0, 1) or sympy.expand(high.intercept + high.lower) != 0:
        return None
    return high.lower
