"""How the kinds of causal steps are written in torch, tokens as rows; part of `spelling.py`'s registry.

Where a method takes a text in parts (`speaker.slot` names a place in its memory), sums are continued from there.
"""

from __future__ import annotations

import sympy

from crate_dsl.library.functions import SMALLEST_NORM
from crate_dsl.operators.graph import Operator
from crate_dsl.pytorch.expressions import ATOM, POWER, PRODUCT, Code, scalar_code
from crate_dsl.pytorch.spelling import Speaker, spell


@spell("triangle", "masked")
def _triangle(op: Operator, speaker: Speaker) -> Code:
    """Rows up to the column: with tokens as rows, columns up to the row, also where the value has no batch."""
    value = speaker.code(op.inputs[0], True)
    if op.attributes[0] == 0:
        return Code(f"{value.at(ATOM)}.tril()", ATOM, True)
    return Code(f"{speaker.helper('masked_until_now')}({value.text})", ATOM, True)


@spell("causal_product", "sums", always=True)
def _causal_product(op: Operator, speaker: Speaker) -> Code:
    inputs, slot = ", ".join(speaker.code(n, True, op.type).text for n in op.inputs), speaker.slot(op)
    if slot:
        return Code(f"{speaker.helper('causal_product_now')}({inputs}, {slot})", ATOM, True)
    return Code(f"{speaker.helper('causal_product')}({inputs})", ATOM, True)


@spell("cumulative", "sums", always=True)
def _cumulative(op: Operator, speaker: Speaker) -> Code:
    columns, slot = speaker.code(op.inputs[0], True, op.type), speaker.slot(op)
    if speaker.operator(op.inputs[1]).kind != "ones":
        weights = speaker.code(op.inputs[1], False, op.type.T)
        columns = Code(f"{columns.at(PRODUCT)} * {weights.at(POWER)}", PRODUCT)
    if slot:
        return Code(f"{speaker.helper('sum_now')}({columns.text}, {slot})", ATOM, True)
    return Code(f"{columns.at(ATOM)}.cumsum(-2)", ATOM, True)


@spell("counted", "counted")
def _counted(op: Operator, speaker: Speaker) -> Code:
    """A coefficient in which the number of tokens grows: one for every row."""
    above, below = op.attributes[0].as_numer_denom()
    value = speaker.named(op.inputs[0], True)
    text = value if above == 1 else f"{_growing(above, value, op, speaker).at(PRODUCT)} * {value}"
    if below != 1:
        text += f" / {_growing(below, value, op, speaker).at(POWER)}"
    return Code(text, PRODUCT, True)


def _growing(value: sympy.Expr, like: str, op: Operator, speaker: Speaker) -> Code:
    """A coefficient with a column in the place of the number of tokens: for every one, how many there are up to it."""

    def lookup(symbol: sympy.Symbol) -> Code:
        if symbol.name != op.type.cols:
            return speaker.scalar(symbol, op.type)
        count = speaker.count()
        numbers = f"{speaker.helper('numbers_now')}({count}, {like})" if count else ""
        return Code(numbers or f"{speaker.helper('token_numbers')}({like})", is_tensor=True)

    return scalar_code(value, lookup)


@spell("prefix_solve", "solution", always=True)
def _prefix_solve(op: Operator, speaker: Speaker) -> Code:
    """By Cholesky factors of chunks where every prefix has a positive definite matrix of one vector's products."""
    a, b, v, *rows = (speaker.code(n, True, op.type).text for n in op.inputs)
    shift, scale = (_growing(c, v, op, speaker) for c in op.attributes[0])
    shift, scale = shift.text, " * ".join([scale.at(PRODUCT), *rows]) if rows else scale.text
    slot = speaker.slot(op)
    if slot:
        name, vectors = ("prefix_solve_now", a) if op.attributes[1] else ("solve_now", f"{a}, {b}")
        return Code(f"{speaker.helper(name)}({vectors}, {v}, {shift}, {scale}, {slot})", ATOM, True)
    if not op.attributes[1]:
        return Code(f"{speaker.helper('solve_per_token')}({a}, {b}, {v}, {shift}, {scale})", ATOM, True)
    other = f", {v}" if op.inputs[0] != op.inputs[2] else ""
    return Code(f"{speaker.helper('prefix_solve')}({a}, {shift}, {scale}{other})", ATOM, True)


@spell("prefix_unit_rows", "units")
def _prefix_unit_rows(op: Operator, speaker: Speaker) -> Code:
    value, slot = speaker.named(op.inputs[0], True), speaker.slot(op)
    squares = f"{speaker.helper('sum_now')}({value}.square(), {slot})" if slot else f"{value}.square().cumsum(-2)"
    return Code(f"{value} * {squares}.clamp_min({SMALLEST_NORM**2!r}).rsqrt()", PRODUCT, True)
