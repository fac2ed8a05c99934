"""Diagonal matrices become broadcast products and vectors of ones become sums: no d x d or N x N matrix is built."""

from __future__ import annotations

from dataclasses import replace

from crate_dsl.language.model import ONE
from crate_dsl.operators.build import combine, terms_of, weighted
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import Builder, Graph, Operator, coefficient_family
from crate_dsl.operators.rewrite import rebuild


def spread(graph: Graph, workload: Workload) -> Graph:
    """`Diag(v) X` scales rows, `X Diag(v)` columns, `1' X` sums columns, `X 1` rows."""

    def rule(builder: Builder, operator: Operator) -> int | None:
        if operator.kind != "product" or len(operator.inputs) != 2:
            return None
        left, right = operator.inputs
        if builder[left].kind == builder[right].kind == "diagonal":
            column = _both(builder, builder[left].inputs[0], builder[right].inputs[0])
            return builder.add(Operator("diagonal", (column,), operator.type))
        if builder[left].kind == "diagonal":
            return broadcast(builder, "rows", builder[left].inputs[0], right)
        if builder[right].kind == "diagonal":
            return broadcast(builder, "columns", builder[right].inputs[0], left)
        return _summed(builder, operator)

    return rebuild(graph, rule)


def _both(builder: Builder, first: int, second: int) -> int:
    """The diagonal of a product of diagonal matrices."""
    if builder.type(second).is_scalar:
        first, second = second, first
    if builder.type(second).is_scalar:
        return weighted(builder, first, second)
    return broadcast(builder, "rows", first, second)


def broadcast(builder: Builder, side: str, column: int, number: int) -> int:
    """The broadcast product; a number before the value stays before the product."""
    terms = terms_of(builder, number)
    if len(terms) == 1 and not coefficient_family(terms[0][0]) and terms[0][0] != 1:
        return combine(builder, [(terms[0][0], broadcast(builder, side, column, terms[0][1]))])
    front, kind = builder.type(column), builder.type(number)
    kind = replace(kind, family=kind.family or front.family, batch=kind.batch or front.batch, diagonal=False)
    return builder.add(Operator("broadcast", (column, number), kind, (side,)))


def _summed(builder: Builder, operator: Operator) -> int | None:
    left, right = operator.inputs
    if builder[left].kind == "transpose" and builder[builder[left].inputs[0]].kind == "ones":
        return _lines(builder, "column_sums", right, ONE, builder.type(right).cols)
    if builder[right].kind == "ones":
        return _lines(builder, "row_sums", left, builder.type(left).rows, ONE)
    return None


def _lines(builder: Builder, name: str, number: int, rows: str, cols: str) -> int:
    return builder.add(Operator("lines", (number,), builder.type(number).of(rows, cols), (name,)))
