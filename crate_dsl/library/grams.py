"""The Gram site: autocorrelations `W' W` of tokens in a derived step, and what its rules put in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sympy

from crate_dsl.library.form import Form, Function, Leaf, Word, multiply
from crate_dsl.library.products import applied
from crate_dsl.library.rules import Absent, Context, Refusal, Rewriting

one = sympy.Integer(1)
SCALED = "scaled"  # holds a rescaled Gram together until all sites are done, so that later rules do not read its scale


def _grams(word: Word, axis: str) -> list[tuple[int, int]]:
    """Self-transposed segments between two consecutive token axes, as (start, end) of the factors."""
    borders = [n for n in range(len(word.factors) + 1) if _axis(word, n) == axis]
    pairs = [(a, b) for a, b in zip(borders, borders[1:], strict=False) if b > a]
    return [(a, b) for a, b in pairs if _palindrome(word.factors[a:b])]


def _axis(word: Word, place: int) -> str:
    """The axis before the factor at a place, or after the last factor."""
    if place < len(word.factors):
        return word.factors[place].shape[0]
    return word.factors[-1].shape[1] if word.factors else ""


def _palindrome(factors: tuple) -> bool:
    return factors == tuple(factor.T for factor in reversed(factors)) and all(isinstance(f, Leaf) for f in factors)


def replacing(wrap: Callable[[Form, Context], Form]) -> Callable[[Form, Context], Rewriting]:
    """Replace every autocorrelation `W' W` by a form made of `scale * W' W`; the site consumes no scalar."""

    def apply(form: Form, context: Context) -> Rewriting:
        axis, words = context.tokens.cols, []
        if not any(_grams(word, axis) for word in form.words):
            raise Absent
        for word in form.words:
            made = [word]
            for start, end in reversed(_grams(word, axis)):
                gram = Form(axis, axis, (Word(context.arguments[-1], word.factors[start:end]),))
                made = [new for old in made for new in _with_gram(old, start, end, wrap(gram, context))]
            words += made
        return Rewriting(Form.of(form.rows, form.cols, words))

    return apply


def _with_gram(word: Word, start: int, end: int, gram: Form) -> list[Word]:
    """The words of the product with a form in the place of the factors from start to end."""
    left, right = replace(word, factors=word.factors[:start]), Word(one, word.factors[end:])
    return [multiply(multiply(left, part), right) for part in gram.words]


# ---- what replaces `scale * W' W` ----------------------------------------------------------------------------------


def columnwise(gram: Form, context: Context) -> Form:
    """`softmax(scale W' W)`: every column a distribution."""
    return applied("softmax", gram)


def rescaled(gram: Form, context: Context) -> Form:
    """`scale W' W` itself, in a bracket."""
    if context.arguments[0] == 0:
        raise Refusal("a scale of 0 leaves nothing of the Gram")
    return applied(SCALED, gram)


def both_ways(gram: Form, context: Context) -> Form:
    """Every column a distribution plus every row one: the Gram is symmetric, so one is the other transposed."""
    columns = columnwise(gram, context)
    return columns + columns.T


def thresholded(gram: Form, context: Context) -> Form:
    """`h(softmax(scale W' W))` with `h(x) = tau` above tau, else 0 (Wang et al. 2025, arXiv 2506.03790)."""
    return applied("threshold", columnwise(gram, context), context.arguments[0])


def dissolved(form: Form) -> Form:
    """The form with every rescaled Gram multiplied out."""
    words = []
    for word in form.words:
        for place, factor in reversed(list(enumerate(word.factors))):
            if isinstance(factor, Function) and factor.name == SCALED:
                left, right = replace(word, factors=word.factors[:place]), Word(one, word.factors[place + 1 :])
                word = multiply(multiply(left, factor.arguments[0].words[0]), right)
        words.append(word)
    return Form.of(form.rows, form.cols, words)
