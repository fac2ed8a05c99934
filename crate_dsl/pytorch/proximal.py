"""Proximal maps in torch: any piecewise linear map of one entry, from its pieces."""

from __future__ import annotations

from collections.abc import Callable

import sympy

from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.operators.passes.bias import relu_threshold
from crate_dsl.pytorch.expressions import ATOM, POWER, PRODUCT, SUM, Code, is_negated

Scalar = Callable[[sympy.Expr], Code]
Name = Callable[[], str]  # names the argument, for maps that read it more than once
IsLearned = Callable[[sympy.Expr], bool]  # tells tensors from numbers of Python


def proximal_code(prox: Prox, argument: Code, name: Name, scalar: Scalar, is_learned: IsLearned) -> Code:
    """A ReLU, a soft threshold or a clamp where the pieces are one; else a sum of ReLUs, or `where` for jumps."""
    threshold = relu_threshold(prox)
    if threshold is not None:
        return _relu(_minus(argument, threshold, scalar))
    soft = soft_threshold(prox)
    if soft is not None:
        return _soft(argument, soft, name, scalar, is_learned(soft))
    if len(prox.pieces) == 1:
        return _line(prox.pieces[0], argument.text if prox.pieces[0].slope == 1 else argument.at(PRODUCT), scalar)
    if not prox.continuous:
        return Code(_where(prox.pieces, name(), scalar))
    bounds = _clamp(prox)
    if bounds is not None:
        texts = [f"{name}={scalar(value).text}" for name, value in bounds.items()]
        mixed = len({is_learned(value) for value in bounds.values()}) > 1  # `clamp` takes tensors or numbers
        return Code(f"{argument.at(ATOM)}.clamp({(').clamp(' if mixed else ', ').join(texts)})")
    return _relus(prox.pieces, name(), scalar)


def _relu(text: str) -> Code:
    """In place where a linear map has just made its argument."""
    if text.startswith("normed_linear(") and _is_one_call(text):
        return Code(f"{text.removesuffix(')')}, relu=True)")
    return Code(f"{text}.relu_()" if text.startswith("F.linear(") and _is_one_call(text) else f"F.relu({text})")


def _is_one_call(text: str) -> bool:
    """Whether the bracket that opens first closes last."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == ")" and depth == 0:
            return place == len(text) - 1
    return False


def soft_threshold(prox: Prox) -> sympy.Expr | None:
    """t where the map is `sign(v) max(|v| - t, 0)`."""
    if len(prox.pieces) != 3:
        return None
    low, middle, high = prox.pieces
    t = high.lower
    slopes = (low.slope, middle.slope, high.slope) == (1, 0, 1) and middle.intercept == 0
    symmetric = slopes and all(sympy.expand(e) == 0 for e in (low.upper + t, low.intercept - t, high.intercept + t))
    return t if symmetric else None


def _soft(argument: Code, threshold: sympy.Expr, name: Name, scalar: Scalar, learned: bool) -> Code:
    if not learned:
        return Code(f"F.softshrink({argument.text}, {scalar(threshold).text})")
    value = name()
    return Code(f"{value}.sign() * F.relu({value}.abs() - {scalar(threshold).at(PRODUCT)})", PRODUCT)


def _clamp(prox: Prox) -> dict[str, sympy.Expr] | None:
    """The bounds of `min(max(v, a), b)`, either of which may be absent."""
    pieces = prox.pieces
    moving = [n for n, piece in enumerate(pieces) if (piece.slope, piece.intercept) == (1, 0)]
    flat = all(piece.slope == 0 for n, piece in enumerate(pieces) if n not in moving)
    if len(moving) != 1 or not flat or len(pieces) > 3:
        return None
    place = moving[0]
    bounds = {"min": pieces[place].lower, "max": pieces[place].upper}
    return {name: end for name, end in bounds.items() if not end.is_infinite}


def _minus(value: Code, shift: sympy.Expr, scalar: Scalar) -> str:
    """`value - shift`, a negative shift added instead."""
    if shift == 0:
        return value.text
    if is_negated(shift):
        return f"{value.at(SUM)} + {scalar(-shift).at(PRODUCT)}"
    return f"{value.at(SUM)} - {scalar(shift).at(PRODUCT)}"


def _line(piece: Piece, value: str, scalar: Scalar) -> Code:
    """`slope * v + intercept`."""
    if piece.slope == 0:
        return scalar(piece.intercept)
    text = value if piece.slope == 1 else f"{scalar(piece.slope).at(PRODUCT)} * {value}"
    level = ATOM if piece.slope == 1 else PRODUCT
    return Code(_minus(Code(text, level), -piece.intercept, scalar), SUM if piece.intercept != 0 else level)


def _relus(pieces: tuple[Piece, ...], value: str, scalar: Scalar) -> Code:
    """The first piece's line, bent by a ReLU wherever the slope changes."""
    first = _line(pieces[0], value, scalar).text
    text = "" if first == "0" else first
    for left, right in zip(pieces, pieces[1:], strict=False):
        bend = sympy.simplify(right.slope - left.slope)
        sign, size = ("-", -bend) if is_negated(bend) else ("+", bend)
        relu = f"F.relu({_minus(Code(value), right.lower, scalar)})"
        term = relu if size == 1 else f"{scalar(size).at(PRODUCT)} * {relu}"
        text = f"{text} {sign} {term}" if text else (term if sign == "+" else f"-{term}")
    return Code(text, SUM)


def _where(pieces: tuple[Piece, ...], value: str, scalar: Scalar) -> str:
    """Piece by piece; at a common end the later piece holds."""
    first = _line(pieces[0], value, scalar).text
    if len(pieces) == 1:
        return first
    rest = _where(pieces[1:], value, scalar)
    return f"torch.where({value} < {scalar(pieces[0].upper).at(POWER)}, {first}, {rest})"
