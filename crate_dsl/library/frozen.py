"""`inverse ~ frozen(fit, E, C)`: token-free left factors are computed once from fitting data, then constant.

In `a (I + a Z Z')^-1 Z` what stands left of the last Z is a linear map that the tokens pass through. ReduNet (Chan et
al. 2022) computes it, with its scalars, from the training data of its layer and keeps it: the layer is constructed,
not trained, and treats every later token by itself.
"""

from __future__ import annotations

from dataclasses import replace

import sympy

from crate_dsl.language.model import Shape
from crate_dsl.library.form import Form, Inverse, Leaf, Word, form_indices, leaves
from crate_dsl.library.rules import Absent, Context, Fitted, Refusal, Rewriting
from crate_dsl.library.scalars import scalar_indices

MOST_NAMES = 8  # of frozen factors


def frozen(form: Form, context: Context) -> Rewriting:
    """Every word with an inverse left of the tokens gets a constant matrix in place of its token-free left factor."""
    names = list(context.words[1:])
    fitted, words = [], []
    for word in form.words:
        place = _left_factor(word, context)
        if not place:
            words.append(word)
            continue
        name = names.pop(0) if names else f"frozen_{len(fitted) + 1}"
        constant, replaced = _freeze(word, place, name, context)
        fitted.append(constant)
        words.append(replaced)
    if not fitted:
        if any(isinstance(factor, Inverse) for word in form.words for factor in word.factors):
            raise Refusal("no inverse stands left of the tokens, so no factor that they pass through can be frozen")
        raise Absent
    if names:
        raise Refusal(f"there is nothing to be called {', '.join(names)}: {len(fitted)} left factors are frozen")
    return Rewriting(Form.of(form.rows, form.cols, words), fitted=tuple(fitted))


def _left_factor(word: Word, context: Context) -> int:
    """How many factors stand left of the first one that has the token axis; 0 where none of them is an inverse."""
    axis = context.tokens.cols
    place = next((n for n, factor in enumerate(word.factors) if axis in factor.shape), 0)
    left = Form(word.factors[0].shape[0] if word.factors else "", "", (Word(sympy.Integer(1), word.factors[:place]),))
    inverses = any(isinstance(factor, Inverse) for factor in word.factors[:place])
    return place if inverses and any(leaf.name == context.tokens.name for leaf in leaves(left)) else 0


def _freeze(word: Word, place: int, name: str, context: Context) -> tuple[Fitted, Word]:
    """The constant with its definition, and the word that reads it; the step size and the sign stay outside."""
    rows, cols = word.factors[0].shape[0], word.factors[place - 1].shape[1]
    weight = sympy.cancel(word.coefficient / context.step)
    sign = -1 if weight.could_extract_minus_sign() else 1
    left = Word(sign * weight, word.factors[:place])
    over = [(index, family) for index, family in word.over if index in form_indices(Form(rows, cols, (left,)))]
    if len(over) > 1:
        raise Refusal(f"the left factor depends on {' and '.join(index for index, _ in over)}: one family is allowed")
    index, family = over[0] if over else (None, None)
    if scalar_indices(context.step):
        raise Refusal("a step size per head does not go with frozen factors")
    leaf = Leaf(name, rows, cols, index)
    kept = replace(word, coefficient=sign * context.step, factors=(leaf, *word.factors[place:]))
    return Fitted(name, Shape(rows, cols, family), index, Form(rows, cols, (left,))), kept
