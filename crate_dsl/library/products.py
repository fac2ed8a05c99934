"""Products of forms beyond that of matrices: entry by entry, by outer products, and with diagonal matrices."""

from __future__ import annotations

from dataclasses import replace

import sympy

from crate_dsl.language.model import ONE
from crate_dsl.library.form import Diagonal, Form, Function, Inverse, Leaf, Word

one = sympy.Integer(1)


def ones(rows: str, cols: str) -> Form:
    """The matrix of ones, as the product of two vectors of ones."""
    left, right = (() if axis == ONE else (Leaf("ones", axis, ONE),) for axis in (rows, cols))
    return Form(rows, cols, (Word(one, (*left, *(leaf.T for leaf in right))),))


def single(rows: str, cols: str, *factors: Function | Inverse | Leaf | Diagonal) -> Form:
    return Form(rows, cols, (Word(one, factors),))


def applied(name: str, form: Form, *parameters: sympy.Expr) -> Form:
    """A function of one form, which keeps its shape."""
    return single(form.rows, form.cols, Function(name, (form,), parameters))


def hadamard(left: Form, right: Form) -> Form:
    """The product entry by entry; `c 1 1' .* X = c X`, and `u v' .* X = Diag(u) X Diag(v)`."""
    (first, left), (second, right) = _without_scale(left), _without_scale(right)
    left, right = sorted((left, right), key=str)  # one order, so that equal products merge
    return _hadamard(left, right).scaled(first * second)


def _without_scale(form: Form) -> tuple[sympy.Expr, Form]:
    """The number before a form of one word, and the rest."""
    if len(form.words) != 1 or form.words[0].over:
        return one, form
    return form.words[0].coefficient, replace(form, words=(replace(form.words[0], coefficient=one),))


def _hadamard(left: Form, right: Form) -> Form:
    units = ones(left.rows, left.cols).words[0].factors
    for constant, other in ((left, right), (right, left)):
        if len(constant.words) == 1 and constant.words[0].factors == units and not constant.words[0].over:
            return other.scaled(constant.words[0].coefficient)
    for outer, other in ((left, right), (right, left)):
        spread = [_spread(word, outer, other) for word in outer.words]
        if spread and None not in spread:
            return sum(spread[1:], spread[0])
    return single(left.rows, left.cols, Function("hadamard", (left, right)))


def _spread(word: Word, within: Form, other: Form) -> Form | None:
    """`u v' .* X` for a word that is an outer product, None where it is none."""
    borders = [n for n in range(1, len(word.factors)) if word.factors[n].shape[0] == ONE]
    if len(borders) != 1:
        return None
    left = diagonal(Form(within.rows, ONE, (Word(one, word.factors[: borders[0]]),)))
    right = diagonal(Form(ONE, within.cols, (Word(one, word.factors[borders[0] :]),)).T)
    first = replace(left.words[0], coefficient=word.coefficient, over=word.over)  # the sum stands around both factors
    return replace(left, words=(first,)) @ other @ right


def diagonal(column: Form) -> Form:
    """The diagonal matrix of a column; a scalar stands before it, and that of ones is the identity."""
    if column.rows == ONE:
        return column
    if column.same(ones(column.rows, ONE)):
        return Form.identity(column.rows)
    if len(column.words) == 1 and not column.words[0].over:
        plain = replace(column.words[0], coefficient=one)
        whole = single(column.rows, column.rows, Diagonal(replace(column, words=(plain,))))
        return whole.scaled(column.words[0].coefficient)
    return single(column.rows, column.rows, Diagonal(column))


def diagonal_part(form: Form) -> Form:
    """The diagonal of a square form as a column: that of `L R` is `(L .* R') 1`."""
    return Form.of(form.rows, ONE, (word for term in form.words for word in _diagonal_part(term, form).words))


def _diagonal_part(word: Word, form: Form) -> Form:
    first, rest = (Word(one, word.factors[:1]), Word(one, word.factors[1:]))
    if not word.factors:
        return ones(form.rows, ONE).scaled(word.coefficient)
    middle = word.factors[0].shape[1]
    left, right = Form(form.rows, middle, (first,)), Form(middle, form.cols, (rest,))
    sums = hadamard(left, right.T) @ ones(middle, ONE)
    words = (replace(w, coefficient=w.coefficient * word.coefficient, over=word.over + w.over) for w in sums.words)
    return Form(form.rows, ONE, tuple(words))
