"""The equations of a derivation as values, which `latex.py` and `plain.py` spell: what stands left, what right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import sympy

from crate_dsl.library.form import Form, Leaf, Word
from crate_dsl.library.scalars import scalar_indices
from crate_dsl.library.tree import Apply, Matrix, Scalar, Tree
from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.mathematics.proximal_step import Term, entry_leaf


@dataclass(frozen=True)
class Left:
    """The left side: a `leaf`, a `symbol`, an `energy` with its arguments, a `gradient`, a `prox`, `zero` or `none`."""

    kind: str
    leaf: Leaf | None = None
    name: str = ""
    variables: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    size: sympy.Expr = sympy.Integer(1)


NOTHING = Left("none")


@dataclass(frozen=True)
class ProxOf:
    """`prox_{size g}(of)`, entry by entry."""

    of: Form
    size: sympy.Expr


@dataclass(frozen=True)
class Bound:
    """A closed form of a piecewise linear map of v; `first` and `second` are slope and intercept.

    `max` and `min` are of two lines, `soft` is `slope sign(v) max(|v| - shift, 0)` with first = (slope, shift), `clip`
    keeps a line between the numbers `second` and `third`.
    """

    kind: str
    first: tuple[sympy.Expr, sympy.Expr]
    second: tuple[sympy.Expr, sympy.Expr] | sympy.Expr = sympy.Integer(0)
    third: sympy.Expr = sympy.Integer(0)


Right = Form | Tree | Prox | ProxOf | Bound


@dataclass(frozen=True)
class Equation:
    """`left = right`, with the letters that the right side uses defined beside it."""

    left: Left
    right: Right | str  # a str is a statement in the words of the language
    where: tuple[Equation, ...] = ()


SUM, OPEN, PRODUCT, TIGHT = range(4)  # how strongly a text holds together; a family sum is open to its right


def signed(summands: list[str]) -> list[str]:
    """The summands with a sign and a blank before each but the first."""
    return summands[:1] + [f"- {s[1:].lstrip()}" if s.startswith("-") else f"+ {s}" for s in summands[1:]]


def around(word: Word) -> tuple[sympy.Expr, sympy.Expr]:
    """The coefficient in two parts: what may stand before the family sums, and what must stand inside them."""
    inside = {index for index, _ in word.over}
    if not scalar_indices(word.coefficient) & inside:
        return word.coefficient, sympy.Integer(1)
    bound = [s for s in word.coefficient.free_symbols if scalar_indices(s) & inside]
    return word.coefficient.as_independent(*bound, as_Add=False)


def closed_form(prox: Prox) -> Bound | None:
    """A known shape of a continuous piecewise linear map, found by its slopes; None where there is none."""
    pieces = prox.pieces
    if not prox.continuous:
        return None
    if len(pieces) == 2:
        return _of_two(*pieces)
    if len(pieces) == 3:
        return _of_three(*pieces)
    return None


def _line(piece: Piece) -> tuple[sympy.Expr, sympy.Expr]:
    return piece.slope, piece.intercept


def _of_two(low: Piece, high: Piece) -> Bound | None:
    """A continuous map of two lines is their maximum where the slope rises, their minimum where it falls."""
    rise = sympy.simplify(high.slope - low.slope)
    if not (rise.is_positive or rise.is_negative):
        return None
    lines = (_line(high), _line(low)) if high.slope != 0 else (_line(low), _line(high))
    return Bound("max" if rise.is_positive else "min", *lines)


def _of_three(low: Piece, middle: Piece, high: Piece) -> Bound | None:
    zero = sympy.Integer(0)
    if (
        low.slope == high.slope != zero == middle.slope
        and middle.intercept == zero
        and low.intercept == -high.intercept
    ):
        return Bound("soft", (low.slope, sympy.simplify(low.intercept / low.slope)))
    if low.slope == high.slope == zero != middle.slope and middle.slope.is_positive:
        return Bound("clip", _line(middle), low.intercept, high.intercept)
    return None


def summed(terms: list[Term]) -> Tree:
    """The tree of some terms of an energy; zero for none."""
    trees = [t.tree if t.weight == 1 else Apply("scale", (Scalar(t.weight), t.tree), t.tree.shape) for t in terms]
    if not trees:
        return Scalar(sympy.Integer(0))
    total = trees[0]
    for tree in trees[1:]:
        total = Apply("plus", (total, tree), tree.shape)
    return total


def of_entry(term: Term, variable: Leaf) -> Term:
    """A penalty of the entries of a matrix as a function of one entry z."""
    entry = Matrix(entry_leaf("z"))
    swapped = (entry if isinstance(a, Matrix) and a.leaf.name == variable.name else a for a in term.tree.arguments)
    return replace(term, tree=replace(term.tree, arguments=tuple(swapped)))
