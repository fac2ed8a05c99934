"""Approximation sites: recognisable factors of a derived step, and the rules that may replace them.

A site matches by structure and by the names of axes, never by sizes or by the user's names. Each rule is one rewriting
of the canonical form of the whole update `Z+ = ...`, before norms are put in. To add one, register it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sympy

from crate_dsl.language.model import ONE, Held, Shape, axis_size
from crate_dsl.library.form import Form, Inverse, Leaf, Word, indices, multiply
from crate_dsl.library.frozen import MOST_NAMES, frozen
from crate_dsl.library.grams import both_ways, columnwise, replacing, rescaled, thresholded
from crate_dsl.library.rules import Absent, Context, Introduced, Refusal, Rewriting, Rule
from crate_dsl.library.scalars import scalar_indices, tidy

one = sympy.Integer(1)
SITES: dict[str, dict[str, Rule]] = {}


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


register(
    Rule(
        "inverse",
        "frozen",
        frozen,
        "frozen(fit) or frozen(fit, E, C): the left factors, with their scalars, computed once from the fitting data",
        "later tokens come from the distribution that the step was fitted to",
        required=("fit",),
        optional=("name",) * MOST_NAMES,
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


register(
    Rule(
        "gram",
        "softmax",
        replacing(columnwise),
        "softmax(scale): W'W -> softmax(scale W'W), column by column",
        "heuristic: the raw autocorrelation acts like a soft membership of tokens",
        required=("scalar",),
    )
)
register(
    Rule(
        "gram",
        "scaled",
        replacing(rescaled),
        "scaled(scale): W'W -> scale W'W, without softmax",
        "the scale is absorbed by the learned maps",
        required=("scalar",),
    )
)
register(
    Rule(
        "gram",
        "bisoftmax",
        replacing(both_ways),
        "bisoftmax(scale): W'W -> A + A', A = softmax(scale W'W): columns and rows",
        "heuristic as softmax; what then is descended exactly is -1/scale sum_k logsumexp(scale W'W)",
        required=("scalar",),
    )
)
register(
    Rule(
        "gram",
        "threshold",
        replacing(thresholded),
        "threshold(tau, scale): W'W -> tau where softmax(scale W'W) > tau, else 0",
        "only tokens of one subspace attend to each other: p is large beside log N, the noise small, tau above 1/2",
        required=("scalar", "scalar"),
    )
)


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
        scaled = [replace(w, coefficient=tidy(w.coefficient / c1) * new1) for w in operators]
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
        "the weight of Z is taken for 1: a norm, where one follows, absorbs the change",
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


def _outer_map(held: Held) -> Callable[[Form, Context], Rewriting]:
    """The outer `U_k` becomes a matrix of its own, held to something, with one bias for the operator where asked."""

    def apply(form: Form, context: Context) -> Rewriting:
        pairs = _outer(form, context)
        replaced, introduced = {}, {}
        for word, outer in pairs:
            name = f"{outer.name}_out"
            shape = Shape(*replace(outer, transposed=False).shape, _family(word, outer))
            if held in ("transposed", "identity"):
                _require_square(shape, context)
            introduced[name] = Introduced(name, shape, outer.name, held)
            replaced[word.key] = replace(word, factors=(replace(outer, name=name), *word.factors[1:]))
        words = [replaced.get(word.key, word) for word in form.words]
        if "bias" in context.words:
            word, outer = pairs[0]
            bias = Leaf(f"{outer.name}_bias", form.rows, ONE)
            weight = word.coefficient if not scalar_indices(word.coefficient) else _sign(word.coefficient)
            words.append(Word(weight, (bias, Leaf("ones", form.cols, ONE).T)))
            introduced[bias.name] = Introduced(bias.name, Shape(form.rows, ONE), outer.name)
        return Rewriting(Form.of(form.rows, form.cols, words), tuple(introduced.values()))

    return apply


def _family(word: Word, outer: Leaf) -> str | None:
    return dict(word.over).get(outer.index) if outer.index else None


def _require_square(shape: Shape, context: Context) -> None:
    """Raises Refusal where the members beside each other make no square matrix."""
    if shape.family is None:
        raise Refusal("it needs a family of matrices, which stand beside each other")
    members, rows, cols = (axis_size(axis, context.sizes) for axis in (shape.family, shape.rows, shape.cols))
    if members * cols != rows:
        needed = f"{shape.family} {shape.cols} = {shape.rows}"
        raise Refusal(
            f"the {members} maps beside each other are {rows} x {members * cols}, not square: {needed} is needed"
        )


def _dropped(form: Form, context: Context) -> Rewriting:
    """The outer map is left out: one subspace that is the whole space."""
    words = {word.key: (word, outer) for word, outer in _outer(form, context)}
    for word, outer in words.values():
        rows, cols = (context.sizes.get(axis, 0) for axis in outer.shape)
        family = _family(word, outer)
        if rows != cols or (family and context.sizes[family] != 1):
            raise Refusal("the outer map can be dropped only where it is one square matrix: K = 1 and p = d")
    kept = (replace(w, factors=w.factors[1:]) if w.key in words else w for w in form.words)
    return Rewriting(Form.of(form.rows, form.cols, kept))


register(
    Rule(
        "adjoint",
        "free",
        _outer_map("learned"),
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
for _name, _held, _meaning, _reason in (
    (
        "fixed",
        "random",
        "a matrix of its own that stays as it was drawn",
        "any outer map will do: what follows learns to read it",
    ),
    (
        "transposed",
        "transposed",
        "the inner maps beside each other, transposed as a whole",
        "a map that is shared, the wrong way round",
    ),
    (
        "identity",
        "identity",
        "the heads beside each other are added as they are",
        "the outer map is absorbed by what follows",
    ),
):
    register(
        Rule(
            "adjoint",
            _name,
            _outer_map(_held),
            f"{_name} or {_name}(bias): {_meaning}",
            _reason,
            optional=("bias",),
            choice=True,
        )
    )
