"""How sums are written in torch; part of `spelling.py`'s registry."""

from __future__ import annotations

import re
from dataclasses import replace

import sympy

from crate_dsl.language.model import ONE
from crate_dsl.operators.graph import Operator
from crate_dsl.pytorch.expressions import ATOM, PRODUCT, SUM, UNARY, Code, is_negated
from crate_dsl.pytorch.spelling import Speaker, column_vector, identity_code, spell


@spell("combine", "update")
def _combine(op: Operator, speaker: Speaker) -> Code:
    """Term by term; a product of weights by `addmm`."""
    product = _product_of_weights(op, speaker)
    return _sum(op, speaker.flipped(op.type), speaker) if product is None else _added_product(op, product, speaker)


def _sum(op: Operator, flipped: bool, speaker: Speaker) -> Code:
    """The positive terms first, so that no sum opens with a minus without need."""
    terms = [(c, n) for c, n in zip(op.attributes[0], op.inputs, strict=True)]
    terms.sort(key=lambda term: is_negated(term[0]))
    # An identity names the matrix beside it, so it is spelled before that would be written out.
    first = sorted(range(len(terms)), key=lambda place: speaker.operator(terms[place][1]).kind != "identity")
    spelled = {place: _term(*terms[place], flipped, op, speaker) for place in first}
    parts = [spelled[place] for place in range(len(terms))]
    text = re.sub(r"^-([\w.]+\*\*[\w.]+)", r"-(\1)", parts[0])  # a power after a sign is bracketed, as formatters do
    for part in parts[1:]:
        text += f" - {part[1:]}" if part.startswith("-") else f" + {part}"
    single = UNARY if text.startswith("-") else PRODUCT
    return Code(text, SUM if len(parts) > 1 else single, flipped)


def _product_of_weights(op: Operator, speaker: Speaker) -> int | None:
    """The one product of a sum of matrices of weights; `addmm` takes numbers as coefficients, and one precision."""
    products = [n for n in op.inputs if speaker.operator(n).kind == "product"]
    factors = [n for product in products for n in speaker.operator(product).inputs]
    if any(map(speaker.is_learned, op.attributes[0])) or any(map(speaker.narrowing, (*op.inputs, *factors))):
        return None
    kind = op.type
    is_matrix = not (kind.batch or kind.family or kind.diagonal or ONE in (kind.rows, kind.cols))
    return products[0] if is_matrix and len(products) == 1 < len(op.inputs) else None


def _added_product(op: Operator, product: int, speaker: Speaker) -> Code:
    """`X + s A B` in one pass over memory, an identity besides X on the diagonal.

    `I + c X' + s A B` is written as the transpose of `I + c X + s B' A'`: sums over both layouts of memory are slow.
    """
    weights = dict(zip(op.inputs, op.attributes[0], strict=True))
    scale = weights.pop(product)
    kinds = {speaker.operator(n).kind for n in weights}
    turned = kinds == {"identity", "transpose"}
    unit = [n for n, weight in weights.items() if speaker.operator(n).kind == "identity" and weight == 1]
    on_diagonal = unit[: len(weights) - 1]  # not where it is all that there is besides the product
    for number in on_diagonal:
        del weights[number]
    rest, single = replace(op, inputs=tuple(weights), attributes=(tuple(weights.values()),)), len(weights) == 1
    added = speaker.code(rest.inputs[0], turned) if single else _sum(rest, turned, speaker)
    factors = [speaker.code(n, turned).text for n in speaker.operator(product).inputs][:: -1 if turned else 1]
    named = {"beta": rest.attributes[0][0] if single else sympy.Integer(1), "alpha": scale}
    options = (f"{name}={speaker.scalar(value, op.type).text}" for name, value in named.items() if value != 1)
    text = f"torch.addmm({', '.join([added.text, *factors, *options])})"
    return Code(f"{speaker.helper('plus_identity')}({text})" if on_diagonal else text, ATOM, turned)


def _term(coefficient: sympy.Expr, number: int, flipped: bool, op: Operator, speaker: Speaker) -> str:
    if speaker.operator(number).kind == "identity" and not op.type.is_scalar:
        value = Code(_identity_like(number, op, speaker))
    elif _is_ones(number, speaker) and any(not _is_ones(n, speaker) for n in op.inputs):
        return speaker.scalar(coefficient, op.type).at(PRODUCT)  # a number broadcasts over the other terms
    elif speaker.operator(number).kind == "constant":
        return speaker.scalar(coefficient * speaker.operator(number).attributes[0], op.type).at(PRODUCT)
    elif flipped and speaker.operator(number).kind == "column" and _has_whole(op, speaker):
        value = column_vector(speaker.operator(number), op.type, speaker)
    else:
        value = speaker.code(number, flipped, op.type)
    if coefficient == 1:
        return value.at(PRODUCT)
    if coefficient == -1:
        return f"-{value.at(PRODUCT)}"
    sign, magnitude = ("-", -coefficient) if is_negated(coefficient) else ("", coefficient)
    factor = speaker.scalar(magnitude, op.type)
    # A product of matrices keeps its brackets: `eta * (A @ B)` scales once, at the end.
    bracketed = f"({value.text})" if " @ " in value.text and value.level == PRODUCT else value.at(PRODUCT)
    return f"{sign}{factor.at(PRODUCT)} * {bracketed}"


def _has_whole(op: Operator, speaker: Speaker) -> bool:
    """Whether a term is there that a column broadcasts over."""
    return any(speaker.operator(n).kind != "column" for n in op.inputs)


def _is_ones(number: int, speaker: Speaker) -> bool:
    """A vector of ones, or one for every token, or a 1."""
    operator = speaker.operator(number)
    is_one = operator.kind == "identity" and operator.type.is_scalar
    return is_one or operator.kind == "ones" or (operator.kind == "column" and _is_ones(operator.inputs[0], speaker))


def _identity_like(number: int, op: Operator, speaker: Speaker) -> str:
    """The identity with the type and device of a term beside it."""
    others = [n for n in op.inputs if n != number and speaker.operator(n).kind != "column"]
    if not others:
        return identity_code(speaker.operator(number), speaker).text
    beside = speaker.named(others[0], speaker.flipped(op.type)).removesuffix(".T").removesuffix(".mT")
    return f"{speaker.helper('identity_like')}({beside})"
