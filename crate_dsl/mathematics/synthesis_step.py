"""`solve`, and the synthesising `denoise`: the unknown of an energy that is quadratic in it, at once.

`denoise Z by lasso(Z | X, D)` seeks X where the gradient of the smooth part in X vanishes: `X - D Z = 0`, so `X = D Z`,
the linear map that undoes sparse coding (Yu et al. 2023, section 7; Pai et al. 2024). `solve Z by ridge(A | Z, D)`
seeks the minimiser A of a regularised least-squares problem of the tokens in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from crate_dsl.errors import fail
from crate_dsl.library.form import Form, Inverse, Leaf, Word, holds
from crate_dsl.library.products import single
from crate_dsl.mathematics.derivation import EXACT, Assignment, DerivationStep, DerivedStep, Objective
from crate_dsl.mathematics.differentiate import depends, gradient
from crate_dsl.mathematics.proximal_step import held, terms, unknown_leaf
from crate_dsl.mathematics.statement import (
    Statement,
    let_record,
    norm_record,
    stated,
    substituted,
    used,
    without_constraints,
)


def derive_synthesis_step(statement: Statement) -> DerivedStep:
    """Solve `grad_X E = c X + rest = 0` for X; the rest must be free of X.

    Raises:
        CrateError: where the equation is not of that form, or its solution cannot replace the tokens.
    """
    step, unknown, tokens = statement.step, unknown_leaf(statement), statement.tokens
    parts = [gradient(t.tree, unknown).scaled(t.weight) for t in terms(statement.energy) if depends(t.tree, unknown)]
    slope = sum(parts, Form.zero(unknown.rows, unknown.cols))
    solution = solved(slope, unknown, statement)
    if not step.read and (solution.rows, solution.cols) != (tokens.rows, tokens.cols):
        shapes = f"{solution.rows} x {solution.cols} against {tokens.rows} x {tokens.cols}"
        raise fail(f"the synthesis cannot replace the tokens: {shapes}", step.span)
    placed = substituted(solution, tokens, statement.read)
    assignments, result = _assign(statement, placed, unknown)
    record = (
        stated(statement),
        *let_record(statement),
        DerivationStep(
            "gradient", statement.energy, slope, f"in {unknown.name}, {_given(statement)} being given", EXACT, step.span
        ),
        DerivationStep("solve", slope, Assignment(unknown, solution), "the gradient vanishes", EXACT, step.span),
        *norm_record(statement, solution, placed),
    )
    energy = held(without_constraints(statement.energy), statement)
    after = placed if len(assignments) == 1 or not step.read else Form.leaf(unknown)
    objective = Objective(energy, unknown, Form.zero(unknown.rows, unknown.cols), after, False)
    parameters = used(statement.parameters, *(a.value for a in assignments), quantities=statement.quantities)
    return DerivedStep(
        step, statement.raw, statement.read, assignments, result, parameters, objective, record,
        quantities=statement.quantities,
    )  # fmt: skip


def solved(slope: Form, unknown: Leaf, statement: Statement) -> Form:
    """`X` from `A X + rest = 0`: all words of X end with it on the right.

    Raises:
        CrateError: where the equation is not linear in X, or multiplies it from the right.
    """
    own = [word for word in slope.words if holds(word, unknown)]
    rest = Form.of(slope.rows, slope.cols, (word for word in slope.words if not holds(word, unknown)))
    if not _weighs(rest.words, statement):
        hint = "all that the minimiser depends on has weight 0: write an energy such as norm2(X - D * Z)"
        raise fail(f"the solution does not depend on {_given(statement)}", statement.step.span, hint)
    linear = _weighs(own, statement) and all(
        w.factors[-1] == unknown and not holds(_without_last(w), unknown) for w in own
    )
    if not linear:
        hint = f"the energy must be quadratic in {unknown.name}, such as 1/2 * norm2({unknown.name} - D * Z)"
        raise fail(f"the energy cannot be solved for {unknown.name}", statement.step.span, hint)
    matrix = Form.of(unknown.rows, unknown.rows, map(_without_last, own))
    if len(matrix.words) == 1 and not matrix.words[0].factors:
        return rest.scaled(-1 / matrix.words[0].coefficient)
    return -(single(unknown.rows, unknown.rows, Inverse(matrix)) @ rest)


def _weighs(words: Iterable[Word], statement: Statement) -> bool:
    """Whether any word is there at the sizes and reals in force."""
    return any(statement.scope.numbers.of(word.coefficient) != 0 for word in words)


def _given(statement: Statement) -> str:
    return "the tokens" if statement.step.verb == "solve" else "the code"


def _without_last(word: Word) -> Word:
    return replace(word, factors=word.factors[:-1])


def _assign(statement: Statement, placed: Form, unknown: Leaf) -> tuple[tuple[Assignment, ...], Leaf]:
    """The solution becomes the tokens, read out and with the skip where stated."""
    step, result = statement.step, statement.result
    skip = Form.leaf(statement.skip) if step.residual else Form.zero(result.rows, result.cols)
    if step.read:
        matrix = next(p for p in statement.block.parameters if p.name == step.read)
        value = Form.leaf(Leaf(step.read, matrix.shape.rows, matrix.shape.cols)) @ Form.leaf(unknown)
        return (Assignment(unknown, placed), Assignment(result, skip + value)), result
    if not step.residual:
        return (Assignment(unknown, placed),), unknown
    return (Assignment(result, skip + placed),), result
