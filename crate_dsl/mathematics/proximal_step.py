"""`sparsify`: proximal gradient on an energy split into a smooth part f and a separable part g.

`A <- prox_{eta g}(A - eta grad f(A))` (Parikh & Boyd 2014, section 4.2; with the l1 norm this is ISTA, Daubechies et
al. 2004; accelerated it is FISTA, Beck & Teboulle 2009). The code A is the unknown of the energy; the tokens are among
what is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import sympy

from crate_dsl.errors import fail
from crate_dsl.library.atoms import ATOMS, Separable
from crate_dsl.library.form import Form, Leaf, holds
from crate_dsl.library.scalars import base_name
from crate_dsl.library.tree import Apply, Matrix, Scalar, Tree
from crate_dsl.mathematics.derivation import CHOICE, EXACT, Assignment, DerivationStep, DerivedStep, Objective, Prox
from crate_dsl.mathematics.differentiate import depends, gradient
from crate_dsl.mathematics.iterations import per_iteration, prox_with_scalars, tree_with_scalars, with_scalars
from crate_dsl.mathematics.proximal import add, derive_prox, undecided
from crate_dsl.mathematics.statement import (
    Statement,
    let_record,
    norm_record,
    renamed,
    stated,
    substituted,
    used,
    without_constraints,
)

ONE = sympy.Integer(1)


@dataclass(frozen=True)
class Term:
    """A summand of an energy with the constant before it."""

    weight: sympy.Expr
    tree: Tree


def derive_proximal_step(statement: Statement) -> DerivedStep:
    """Unroll the iterations; the iterates are opaque, so nothing is distributed across them.

    Raises:
        CrateError: where no proximal operator can be derived, or the code cannot take the place of the tokens.
    """
    step, unknown = statement.step, unknown_leaf(statement)
    smooth, separable = split(statement.energy, unknown)
    slope = sum((gradient(t.tree, unknown).scaled(t.weight) for t in smooth), Form.zero(unknown.rows, unknown.cols))
    prox = penalty_prox(separable, unknown, statement)
    descent = Form.leaf(unknown) - slope.scaled(statement.size)
    record = [
        stated(statement),
        *let_record(statement),
        DerivationStep(
            "gradient", statement.energy, slope, "the smooth part, reverse mode over its atoms", EXACT, step.span
        ),
        prox_line(separable, prox, statement),
    ]
    start = _start(statement, unknown)
    iterates = _unroll(statement, descent, unknown, start, prox)
    assignments, result = _read_out(statement, iterates)
    placed = substituted(descent, statement.tokens, statement.read)
    record += [*norm_record(statement, descent, placed), _unrolling(statement, placed, iterates)]
    last = per_iteration(statement, step.iterations)
    energy = tree_with_scalars(held(without_constraints(statement.energy), statement), last)
    objective = Objective(energy, unknown, start, Form.leaf(iterates[-1].target), False)
    return DerivedStep(
        step,
        statement.raw,
        statement.read,
        assignments,
        result,
        used(statement.parameters, *(a.value for a in assignments), quantities=statement.quantities),
        objective,
        tuple(record),
        statement.size,
        statement.quantities,
    )


def unknown_leaf(statement: Statement) -> Leaf:
    """The leaf of the step's fresh name."""
    step = statement.step
    argument = next(a for a in step.energy.arguments if step.actuals[a.name] == step.unknown)
    return Leaf(step.unknown, argument.shape.rows, argument.shape.cols)


def terms(tree: Tree, weight: sympy.Expr = ONE) -> Iterator[Term]:
    """The summands of an energy."""
    match tree:
        case Apply(atom="plus" | "minus", arguments=(left, right)):
            yield from terms(left, weight)
            yield from terms(right, weight if tree.atom == "plus" else -weight)
        case Apply(atom="scale", arguments=(Scalar() as factor, operand)):
            yield from terms(operand, weight * factor.value)
        case _:
            yield Term(weight, tree)


def split(energy: Tree, unknown: Leaf) -> tuple[list[Term], list[Term]]:
    """Smooth terms, and penalties of the entries of the unknown alone."""
    smooth, separable = [], []
    for term in terms(energy):
        if depends(term.tree, unknown):
            (separable if _is_penalty(term.tree, unknown) else smooth).append(term)
    return smooth, separable


def _is_penalty(tree: Tree, unknown: Leaf) -> bool:
    if not isinstance(tree, Apply) or tree.atom not in ATOMS or ATOMS[tree.atom].entry is None:
        return False
    return isinstance(tree.arguments[0], Matrix) and tree.arguments[0].leaf.name == unknown.name


def penalty_prox(penalties: list[Term], unknown: Leaf, statement: Statement) -> Prox:
    """The proximal map of a sum of penalties.

    Raises:
        CrateError: where there is none, no value satisfies their bounds, or no rule gives the map.
    """
    if not penalties:
        hint = "add a penalty of its entries such as l1, or use compress for a smooth energy"
        raise fail(f'"{statement.step.energy.name}" has no penalty of {unknown.name} alone', statement.step.span, hint)
    _check_order(penalties)
    total = add([(_weight(term), _entry(term)) for term in penalties])
    _check_constant(total, statement)
    for piece in total.pieces:
        lower, upper = map(statement.start_value, (piece.lower, piece.upper))
        if not lower < upper:
            one_left = f"the bounds of this penalty leave one value, {lower:g}"
            message = one_left if lower == upper else "no value satisfies the bounds of this penalty"
            hint = f"the lower bound is {lower:g}, the upper one {upper:g}; it has to be above"
            raise fail(message, penalties[0].tree.span, hint)
        if not statement.start_value(1 + 2 * statement.size * piece.square) > 0:
            hint = "1/2 (z - v)^2 + eta g(z) has no minimum as training starts: weigh the square less, or step less"
            raise fail("no proximal map: this penalty falls too steeply", penalties[0].tree.span, hint)
    return derive_prox(total, statement.size, statement.step.span)


def _check_order(penalties: list[Term]) -> None:
    """On which side of a kink the entries are bounded must be known, and stay so while bounds are learned."""
    open_pair = undecided([_entry(term) for term in penalties])
    if open_pair:
        bound, kink = open_pair
        message = f'whether the bound "{bound}" lies above {kink}, where a penalty beside it kinks, is not known'
        hint = "declare a learned bound positive: learn tau > 0 = 0.1; name a difference of reals: real b = c - a"
        raise fail(message, next(t for t in penalties if ATOMS[t.tree.atom].constraint).tree.span, hint)


def _check_constant(penalty: Separable, statement: Statement) -> None:
    """A threshold is one number for all tokens of all images."""
    held = {quantity.name for quantity in statement.quantities}
    values = [v for piece in penalty.pieces for v in (piece.lower, piece.upper, piece.square, piece.linear)]
    for symbol in sorted({symbol for value in values for symbol in value.free_symbols}, key=str):
        if base_name(symbol) in held:
            hint = "weigh penalties by reals and learned scalars"
            raise fail(f'a penalty cannot be weighted by "{symbol.name}"', statement.step.span, hint)


def _weight(term: Term) -> sympy.Expr:
    """The weight of a penalty; a positive multiple of an indicator is the indicator."""
    if not ATOMS[term.tree.atom].constraint:
        return term.weight
    if not term.weight.is_positive:
        raise fail("a constraint can only be added", term.tree.span, f"write: + {term.tree.atom}(...)")
    return ONE


def _entry(term: Term) -> Separable:
    return ATOMS[term.tree.atom].entry(*(argument.value for argument in term.tree.arguments[1:]))


def prox_line(penalties: list[Term], prox: Prox, statement: Statement) -> DerivationStep:
    """The line of a derivation with the proximal map of some penalties."""
    parts = (f"{t.weight} * {t.tree.atom}(z)" if t.weight != 1 else f"{t.tree.atom}(z)" for t in penalties)
    image = Assignment(entry_leaf("z"), Form.leaf(entry_leaf("v")), prox)
    why = "argmin over z of 1/2 (z - v)^2 + eta g(z), entry by entry"
    return DerivationStep("prox", "g(z) = " + " + ".join(parts), image, why, EXACT, statement.step.span)


def entry_leaf(name: str) -> Leaf:
    """One entry of a matrix: v before a proximal map, z after it."""
    return Leaf(name, "1", "1")


def _start(statement: Statement, unknown: Leaf) -> Form:
    """Where the iterations begin: the tokens as read, or zero."""
    if statement.step.start == "zero":
        return Form.zero(unknown.rows, unknown.cols)
    if (unknown.rows, unknown.cols) != (statement.tokens.rows, statement.tokens.cols):
        message = f"{unknown.name} ({unknown.rows} x {unknown.cols}) cannot start from the tokens"
        raise fail(
            f"{message} ({statement.tokens.rows} x {statement.tokens.cols})", statement.step.span, "write: from 0"
        )
    return Form.leaf(statement.read)


def _unroll(statement: Statement, descent: Form, unknown: Leaf, start: Form, prox: Prox) -> tuple[Assignment, ...]:
    """One assignment per iteration, the tokens being those that the step reads; between them the points of momentum."""
    update = substituted(descent, statement.tokens, statement.read)
    count, weights = statement.step.iterations, iter(momentum(statement.step.iterations))
    current, point, assignments = start, start, []
    for number in range(1, count + 1):
        own = per_iteration(statement, number)
        value = with_scalars(_at(update, unknown, point), own)
        target = replace(unknown, name=f"{unknown.name}^{number}")
        size = statement.size.xreplace(own) if own else None
        assignments.append(Assignment(target, value, prox_with_scalars(prox, own), size))
        previous, current = current, Form.leaf(target)
        point, weight = current, next(weights) if statement.step.accelerate else 0.0
        if weight and number < count:
            beyond = current.scaled(sympy.Float(1 + weight)) - previous.scaled(sympy.Float(weight))
            assignments.append(Assignment(_beyond(statement, unknown, number + 1), beyond))
            point = Form.leaf(assignments[-1].target)
    return tuple(assignments)


def momentum(count: int) -> list[float]:
    """The weights `(t_k - 1) / t_{k+1}` after iterations 1 to `count` of FISTA, `t_1 = 1`.

    `t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2` (Beck & Teboulle 2009, equations 4.2 and 4.3).
    """
    weights, t = [], 1.0
    for _ in range(count):
        following = (1 + math.sqrt(1 + 4 * t * t)) / 2
        weights.append((t - 1) / following)
        t = following
    return weights


def _beyond(statement: Statement, unknown: Leaf, number: int) -> Leaf:
    """The extrapolated point that an iteration starts from, by a letter that the step does not use."""
    taken = {statement.tokens.name, unknown.name, *statement.step.actuals.values(), statement.step.read}
    letter = next(letter for letter in ("Y", "P", "Q", "point") if letter not in taken)
    return replace(unknown, name=f"{letter}^{number}")


def _at(form: Form, unknown: Leaf, point: Form) -> Form:
    """The form with a leaf, or zero, in place of the unknown."""
    if point.is_zero:
        kept = (word for word in form.words if not holds(word, unknown))
        return Form.of(form.rows, form.cols, kept)
    return substituted(form, unknown, point.words[0].factors[0])


def _read_out(statement: Statement, iterates: tuple[Assignment, ...]) -> tuple[tuple[Assignment, ...], Leaf]:
    """What replaces the tokens: the code itself, or a dictionary times the code, with the skip where stated."""
    step, tokens, code = statement.step, statement.tokens, iterates[-1].target
    value = Form.leaf(code)
    if step.read:
        parameter = next(p for p in statement.block.parameters if p.name == step.read)
        value = Form.leaf(Leaf(step.read, parameter.shape.rows, parameter.shape.cols)) @ value
    if (value.rows, value.cols) != (tokens.rows, tokens.cols):
        message = f"{value.rows} x {value.cols} cannot replace the tokens, {tokens.rows} x {tokens.cols}"
        raise fail(f"the result, {message}", step.span, "read the code out through a matrix: read D1")
    if step.residual:
        value = Form.leaf(statement.skip) + value
    if value.same(Form.leaf(code)):
        return iterates, code
    return (*iterates, Assignment(statement.result, value)), statement.result


def _unrolling(statement: Statement, descent: Form, iterates: tuple[Assignment, ...]) -> DerivationStep:
    count, start = statement.step.iterations, statement.step.start
    why = f"{count} iteration{'s' if count > 1 else ''} of step {statement.size}, started from {start}"
    if per_iteration(statement, 1):
        why += "; what is learned per iteration has its number below"
    if statement.step.accelerate:
        why += "; momentum (t_k - 1) / t_(k+1) between them, t_1 = 1, t_(k+1) = (1 + sqrt(1 + 4 t_k^2)) / 2"
    return DerivationStep("unroll", descent, iterates[-1], why, CHOICE, statement.step.span)


def held(energy: Tree, statement: Statement) -> Tree:
    """The energy with the tokens held as the step reads them."""
    return renamed(energy, statement.tokens.name, statement.read.name)
