"""Approximation sites: recognisable factors of a derived step, and the rules that may replace them.

A site matches by structure and by the names of axes, never by sizes or by the user's names. Each rule is one rewriting
of the canonical form of the whole update `Z+ = ...`, before norms are put in. To add one, register it here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import sympy

from crate_dsl.language.model import ONE, Shape
from crate_dsl.library.form import Form, Function, Inverse, Leaf, Word, indices, multiply
from crate_dsl.library.scalars import scalar_indices
from crate_dsl.library.tree import Tree

one = sympy.Integer(1)


class Refusal(Exception):
    """A rule cannot be applied; the message says why, in the user's terms."""


class Absent(Refusal):
    """The site does not occur in the expression."""


@dataclass(frozen=True)
class Context:
    """What a rule may know beside the form: the tokens, its scalar arguments, and the sizes in force."""

    tokens: Leaf
    arguments: tuple[sympy.Expr, ...]
    words: tuple[str, ...]  # bare words among the arguments, such as `bias`
    sizes: Mapping[str, int]
    step: sympy.Expr = one  # the step size, which the words of the operator carry


@dataclass(frozen=True)
class Fitted:
    """A matrix, or a family of them, that is computed once from fitting data and constant afterwards.

    `value` is its definition in terms of the tokens as they are fitted; `index` is the family's index in it.
    """

    name: str
    shape: Shape
    index: str | None
    value: Form | Tree


@dataclass(frozen=True)
class Rewriting:
    """The new form, and the matrices that the rule introduced.

    Learned ones come with the parameter that each departs from, fitted ones with their definition.
    """

    form: Form
    introduced: tuple[tuple[str, Shape, str], ...] = ()
    fitted: tuple[Fitted, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One way to replace a site; `assumption` is what would make it exact, `choice` marks a matter of taste."""

    site: str
    name: str
    apply: Callable[[Form, Context], Rewriting]
    usage: str
    assumption: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    choice: bool = False


SITES: dict[str, dict[str, Rule]] = {}
SCALED = "scaled"  # holds a rescaled Gram together until all sites are done, so that later rules do not read its scale


def register(rule: Rule) -> None:
    SITES.setdefault(rule.site, {})[rule.name] = rule


def present(form: Form, context: Context) -> list[str]:
    """The sites that a form contains, found by trying one rule of each."""
    return [site for site, rules in SITES.items() if any(_applies(rule, form, context) for rule in rules.values())]


def _applies(rule: Rule, form: Form, context: Context) -> bool:
    try:
        rule.apply(form, replace(context, arguments=(one,) * len(rule.required)))
    except Absent:
        return False
    except Refusal:
        return True
    return True


def _identity(word: Word, context: Context) -> bool:
    return word.factors == (context.tokens,) and not word.over


def _operators(form: Form, context: Context) -> list[Word]:
    """All words but that of the tokens alone."""
    return [word for word in form.words if not _identity(word, context)]


# ---- inverse -------------------------------------------------------------------------------------------------------


def _neumann(form: Form, context: Context) -> Rewriting:
    """`(I + M)^-1 -> I - M + M^2 - ...`, up to the power n."""
    order = context.arguments[0]
    if not (order.is_Integer and 1 <= order <= 16):
        raise Refusal("the order of a Neumann series is a whole number from 1 to 16")
    found, words = False, []
    for word in form.words:
        expanded = _expand_inverses(word, int(order))
        found |= expanded != [word]
        words += expanded
    if not found:
        raise Absent
    return Rewriting(Form.of(form.rows, form.cols, words))


def _expand_inverses(word: Word, order: int) -> list[Word]:
    """The words of the product in which every inverse is replaced by its series."""
    place = next((n for n, factor in enumerate(word.factors) if isinstance(factor, Inverse)), None)
    if place is None:
        return [word]
    return [w for term in _expand_inverse(word, place, order) for w in _expand_inverses(term, order)]


def _expand_inverse(word: Word, place: int, order: int) -> list[Word]:
    matrix = word.factors[place].of
    rest = matrix - Form.identity(matrix.rows)
    if any(not w.factors for w in rest.words):
        raise Refusal(f"the Neumann series expands I + M, and this is {matrix}")
    power = series = Form.identity(matrix.rows)
    for _ in range(order):
        power = -(power @ rest)
        series = series + power
    left = replace(word, factors=word.factors[:place])
    right = Word(one, word.factors[place + 1 :])
    return [multiply(multiply(left, term), right) for term in series.words]


register(
    Rule(
        "inverse",
        "neumann",
        _neumann,
        "neumann(n): the Neumann series up to the power n",
        "the spectral radius of M in (I + M)^-1 is below 1",
        required=("size",),
    )
)


# ---- frame ---------------------------------------------------------------------------------------------------------


def _frame(form: Form, context: Context) -> Rewriting:
    """`sum_k U_k U_k' -> I`."""
    words = [_without_frame(word) for word in form.words]
    if all(new is None for new in words):
        raise Absent
    kept = (new or old for new, old in zip(words, form.words, strict=True))
    return Rewriting(Form.of(form.rows, form.cols, kept))


def _without_frame(word: Word) -> Word | None:
    """The word without its frame, None where it has none: the factors with k are `U_k U_k'` and nothing else."""
    for index, family in word.over:
        places = [n for n, factor in enumerate(word.factors) if index in indices(factor)]
        if len(places) != 2 or places[1] != places[0] + 1:
            continue
        first, second = (word.factors[n] for n in places)
        if first != second.T or first.shape[0] != second.shape[1]:
            continue
        if index in scalar_indices(word.coefficient):
            raise Refusal(f"the frame's terms are weighted: {word.coefficient} depends on {index}")
        factors = word.factors[: places[0]] + word.factors[places[1] + 1 :]
        return Word(word.coefficient, factors, tuple(o for o in word.over if o != (index, family)))
    return None


register(
    Rule(
        "frame",
        "identity",
        _frame,
        "identity: the subspaces' projections add up to I",
        "sum_k U_k U_k' = I: K p = d, and all columns of all U_k are orthonormal",
    )
)


# ---- gram ----------------------------------------------------------------------------------------------------------


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


def _gram(wrap: Callable[[Form], Word]) -> Callable[[Form, Context], Rewriting]:
    """Replace every autocorrelation `W' W` by a word made of `scale * W' W`; the site consumes no scalar."""

    def apply(form: Form, context: Context) -> Rewriting:
        axis, found, words = context.tokens.cols, False, []
        for word in form.words:
            for start, end in reversed(_grams(word, axis)):
                found = True
                gram = Form(axis, axis, (Word(context.arguments[-1], word.factors[start:end]),))
                left, right = replace(word, factors=word.factors[:start]), Word(one, word.factors[end:])
                word = multiply(multiply(left, wrap(gram)), right)
            words.append(word)
        if not found:
            raise Absent
        return Rewriting(Form.of(form.rows, form.cols, words))

    return apply


register(
    Rule(
        "gram",
        "softmax",
        _gram(lambda gram: Word(one, (Function("softmax", (gram,)),))),
        "softmax(scale): W'W -> softmax(scale W'W), column by column",
        "heuristic: the raw autocorrelation acts like a soft membership of tokens",
        required=("scalar",),
    )
)
register(
    Rule(
        "gram",
        "scaled",
        _gram(lambda gram: Word(one, (Function(SCALED, (gram,)),))),
        "scaled(scale): W'W -> scale W'W, without softmax",
        "the scale is absorbed by the learned maps",
        required=("scalar",),
    )
)


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


# ---- coefficients --------------------------------------------------------------------------------------------------


def _sign(value: sympy.Expr) -> sympy.Expr:
    if value.is_positive or value.is_negative:
        return one if value.is_positive else -one
    raise Refusal(
        f"the sign of the coefficient {value} is not known; declare its scalars as positive (learn kappa > 0 = 1)"
    )


def _coefficients(
    choose: Callable[[sympy.Expr, sympy.Expr], tuple[sympy.Expr, sympy.Expr]],
) -> Callable[..., Rewriting]:
    """Replace (c0, c1), the weights of the tokens alone and of the operator; its further words keep their ratio."""

    def apply(form: Form, context: Context) -> Rewriting:
        operators = _operators(form, context)
        if not operators:
            raise Absent
        c0 = sum((w.coefficient for w in form.words if _identity(w, context)), sympy.Integer(0))
        c1 = operators[0].coefficient
        new0, new1 = choose(c0, c1)
        tokens = Word(new0, (context.tokens,))
        scaled = [replace(w, coefficient=sympy.simplify(w.coefficient * new1 / c1)) for w in operators]
        return Rewriting(Form.of(form.rows, form.cols, [tokens, *scaled]))

    return apply


register(
    Rule(
        "coefficients",
        "absorbed",
        _coefficients(lambda c0, c1: (one, _sign(c1))),
        "absorbed: Z plus or minus the operator, as the official code",
        "the learned maps absorb the step size and the weight of the operator",
    )
)
register(
    Rule(
        "coefficients",
        "skip",
        _coefficients(lambda c0, c1: (one, c1)),
        "skip: Z + c1 operator, c1 kept",
        "the change of the weight of Z is absorbed by the norm",
    )
)
register(
    Rule(
        "coefficients",
        "convex",
        _coefficients(lambda c0, c1: (c0, _sign(c1) * sympy.Abs(1 - c0))),
        "convex: c0 Z + (1 - c0) operator, as the paper states",
        "the operator is defined without the scale of the rate, which the step size carries once",
    )
)


# ---- adjoint -------------------------------------------------------------------------------------------------------


def _outer(form: Form, context: Context) -> list[tuple[Word, Leaf]]:
    """Operator words with their leftmost weight."""
    pairs = [(word, word.factors[0]) for word in _operators(form, context) if word.factors]
    pairs = [(w, f) for w, f in pairs if isinstance(f, Leaf) and f.name != context.tokens.name and f.name != "ones"]
    if not pairs:
        raise Absent
    return pairs


def _free(form: Form, context: Context) -> Rewriting:
    """The outer `U_k` becomes a matrix of its own, with one bias for the operator where asked."""
    pairs = _outer(form, context)
    replaced, introduced = {}, {}
    for word, outer in pairs:
        name = f"{outer.name}_out"
        family = dict(word.over).get(outer.index) if outer.index else None
        introduced[name] = (name, Shape(*replace(outer, transposed=False).shape, family), outer.name)
        replaced[word.key] = replace(word, factors=(replace(outer, name=name), *word.factors[1:]))
    words = [replaced.get(word.key, word) for word in form.words]
    if "bias" in context.words:
        word, outer = pairs[0]
        bias = Leaf(f"{outer.name}_bias", form.rows, ONE)
        weight = word.coefficient if not scalar_indices(word.coefficient) else _sign(word.coefficient)
        words.append(Word(weight, (bias, Leaf("ones", form.cols, ONE).T)))
        introduced[bias.name] = (bias.name, Shape(form.rows, ONE), outer.name)
    return Rewriting(Form.of(form.rows, form.cols, words), tuple(introduced.values()))


def _dropped(form: Form, context: Context) -> Rewriting:
    """The outer map is left out: one subspace that is the whole space."""
    words = {word.key: (word, outer) for word, outer in _outer(form, context)}
    for word, outer in words.values():
        rows, cols = (context.sizes.get(axis, 0) for axis in outer.shape)
        family = dict(word.over).get(outer.index) if outer.index else None
        if rows != cols or (family and context.sizes[family] != 1):
            raise Refusal("the outer map can be dropped only where it is one square matrix: K = 1 and p = d")
    kept = (replace(w, factors=w.factors[1:]) if w.key in words else w for w in form.words)
    return Rewriting(Form.of(form.rows, form.cols, kept))


register(
    Rule(
        "adjoint",
        "free",
        _free,
        "free or free(bias): the outer map is a matrix of its own",
        "over-parameterised: the outer map is learned apart from the inner one",
        optional=("bias",),
        choice=True,
    )
)
register(
    Rule(
        "adjoint",
        "dropped",
        _dropped,
        "dropped: no outer map (one head as wide as the tokens)",
        "a single head: the outer map is absorbed by what follows",
        choice=True,
    )
)
