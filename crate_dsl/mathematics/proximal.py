"""Proximal operators, derived from their scalar problem.

For a separable `g` the map `prox_{t g}(v) = argmin_z 1/2 (z - v)^2 + t g(z)` acts entry by entry (Parikh & Boyd 2014,
section 2.1). Where g is piecewise quadratic and convex, `v` lies in `z + t dg(z)`: every piece of g maps to an interval
of v on which the minimiser is affine, and the gaps between the intervals belong to the kinks. A drop of g at one point
(as of l0) is then weighed against that minimiser.
"""

from __future__ import annotations

import sympy

from crate_dsl.errors import Span, fail
from crate_dsl.library.atoms import QuadraticPiece, Separable
from crate_dsl.mathematics.derivation import Piece, Prox

oo = sympy.oo
POSITIVE = "declare a learned weight positive: learn tau > 0 = 0.1"


def add(terms: list[tuple[sympy.Expr, Separable]]) -> Separable:
    """The weighted sum of separable functions: breakpoints are united, domains intersected."""
    lower = sympy.Max(*(g.pieces[0].lower for _, g in terms))
    upper = sympy.Min(*(g.pieces[-1].upper for _, g in terms))
    cuts = {end for _, g in terms for piece in g.pieces for end in (piece.lower, piece.upper)}
    inner = sorted((c for c in cuts if _less(lower, c) and _less(c, upper)), key=_order)
    ends = [lower, *inner, upper]
    pieces = tuple(_sum_piece(terms, a, b) for a, b in zip(ends, ends[1:], strict=False))
    drops = tuple(
        (at, w * depth) for w, g in terms for at, depth in g.drops if not (_less(at, lower) or _less(upper, at))
    )
    return Separable(pieces, drops)


def undecided(penalties: list[Separable]) -> tuple[sympy.Expr, sympy.Expr] | None:
    """A bound of the entries, and a kink or a drop that lies on a side of it that the signs of scalars leave open."""
    lower = sympy.Max(*(g.pieces[0].lower for g in penalties))
    upper = sympy.Min(*(g.pieces[-1].upper for g in penalties))
    kinks = {piece.lower for g in penalties for piece in g.pieces[1:]} | {at for g in penalties for at, _ in g.drops}
    for at in sorted(kinks, key=str):
        for bound, beyond in ((lower, lower - at), (upper, at - upper)):
            if not (bound.is_infinite or beyond.is_negative or beyond.is_nonnegative):
                return bound, at
    return None


def _less(a: sympy.Expr, b: sympy.Expr) -> bool:
    return bool(sympy.simplify(b - a).is_positive) or (a == -oo and b != -oo) or (b == oo and a != oo)


def _order(value: sympy.Expr) -> float:
    """Breakpoints are numbers or scalars of known sign; the sign decides their order about zero."""
    return float(value) if value.is_number else (1.0 if value.is_positive else -1.0)


def _sum_piece(terms: list[tuple[sympy.Expr, Separable]], lower: sympy.Expr, upper: sympy.Expr) -> QuadraticPiece:
    square = linear = constant = sympy.Integer(0)
    for weight, g in terms:
        piece = next(p for p in g.pieces if not _less(lower, p.lower) and not _less(p.upper, upper))
        square, linear = square + weight * piece.square, linear + weight * piece.linear
        constant += weight * piece.constant
    return QuadraticPiece(lower, upper, square, linear, constant)


def derive_prox(g: Separable, t: sympy.Expr, span: Span | None = None) -> Prox:
    """`prox_{t g}` as a piecewise linear map.

    Raises:
        CrateError: where g is not convex apart from its drops, so that no rule applies.
    """
    pieces: list[Piece] = []
    for number, piece in enumerate(g.pieces):
        if number and not _convex_at(g.pieces[number - 1], piece):
            hint = f"its slope must not fall where it kinks; {POSITIVE}"
            raise fail("no proximal rule for this sum of penalties", span, hint)
        pieces += _kink(g, number, t) + [_interior(piece, t)]
    last = g.pieces[-1]
    if last.upper != oo:
        end = _image(last, last.upper, t)
        pieces.append(Piece(end, oo, sympy.Integer(0), last.upper))
    for at, depth in g.drops:
        if not depth.is_nonnegative:
            raise fail(
                "no proximal rule for a count of non-zeros with this weight",
                span,
                f"it must not be negative; {POSITIVE}",
            )
        pieces = _weigh(pieces, at, depth * t, span)
    return Prox(tuple(pieces))


def _convex_at(left: QuadraticPiece, right: QuadraticPiece) -> bool:
    z = left.upper
    rise = (2 * right.square * z + right.linear) - (2 * left.square * z + left.linear)
    jump = (right.square - left.square) * z**2 + (right.linear - left.linear) * z + right.constant - left.constant
    return sympy.simplify(jump) == 0 and bool(sympy.simplify(rise).is_nonnegative)


def _image(piece: QuadraticPiece, z: sympy.Expr, t: sympy.Expr) -> sympy.Expr:
    """The v whose minimiser is z, seen from this piece: `v = z + t g'(z)`."""
    return z if z.is_infinite else sympy.factor(z + t * (2 * piece.square * z + piece.linear))


def _interior(piece: QuadraticPiece, t: sympy.Expr) -> Piece:
    """Where the derivative vanishes inside a piece: `z = (v - t b) / (1 + 2 t a)`."""
    slope = 1 / (1 + 2 * t * piece.square)
    return Piece(_image(piece, piece.lower, t), _image(piece, piece.upper, t), slope, -t * piece.linear * slope)


def _kink(g: Separable, number: int, t: sympy.Expr) -> list[Piece]:
    """The interval of v that is held at the left end of a piece."""
    piece, z = g.pieces[number], g.pieces[number].lower
    if z == -oo:
        return []
    lower = _image(g.pieces[number - 1], z, t) if number else -oo
    upper = _image(piece, z, t)
    return [] if lower == upper else [Piece(lower, upper, sympy.Integer(0), z)]


def _weigh(pieces: list[Piece], at: sympy.Expr, depth: sympy.Expr, span: Span | None) -> list[Piece]:
    """Let a drop of g (already times t) at one point win wherever it costs less than the minimiser elsewhere.

    On a piece where the minimiser is `z = v` the drop costs `1/2 (v - at)^2` against `depth`, so it wins within
    `sqrt(2 depth)` of its point; a piece that holds z at the point keeps it.
    """
    reach = sympy.sqrt(2 * depth)
    result: list[Piece] = []
    for piece in pieces:
        if piece.slope == 0 and piece.intercept == at:
            result.append(piece)
        elif piece.slope == 1 and piece.intercept == 0:
            result += _carved(piece, at, reach)
        else:
            hint = "use l0 alone, or with nonnegative"
            raise fail("no proximal rule for a count of non-zeros together with this penalty", span, hint)
    return _joined(result)


def _carved(piece: Piece, at: sympy.Expr, reach: sympy.Expr) -> list[Piece]:
    """An identity piece with the neighbourhood of the drop cut out of it."""
    one, zero = sympy.Integer(1), sympy.Integer(0)
    left, right = at - reach, at + reach
    parts = []
    if _less(piece.lower, left):
        parts.append(Piece(piece.lower, left, one, zero))
    parts.append(Piece(sympy.Max(piece.lower, left) if piece.lower != -oo else left, right, zero, at))
    if piece.upper == oo:
        parts.append(Piece(right, oo, one, zero))
    return parts


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours with the same map become one piece."""
    result = pieces[:1]
    for piece in pieces[1:]:
        last = result[-1]
        if (piece.slope, piece.intercept) == (last.slope, last.intercept):
            result[-1] = Piece(last.lower, piece.upper, last.slope, last.intercept)
        else:
            result.append(piece)
    return result
