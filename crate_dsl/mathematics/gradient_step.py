"""`compress`, `descend`, `ascend`, the ascending `denoise`: one explicit gradient step, then the approximations."""

from __future__ import annotations

from dataclasses import replace

import sympy

from crate_dsl.errors import fail
from crate_dsl.language.model import Parameter, SiteRule
from crate_dsl.language.syntax import Name
from crate_dsl.library.approximations import SITES, present
from crate_dsl.library.form import Form, Leaf, Word
from crate_dsl.library.grams import dissolved
from crate_dsl.library.products import diagonal
from crate_dsl.library.rules import Absent, Context, Fitted, Refusal, Rewriting, Rule
from crate_dsl.library.scalars import rename_index, scalar_indices
from crate_dsl.mathematics.derivation import (
    APPROXIMATION,
    CHOICE,
    EXACT,
    Assignment,
    DerivationStep,
    DerivedStep,
    Objective,
)
from crate_dsl.mathematics.differentiate import gradient
from crate_dsl.mathematics.express import Scope, express, numbers_in_force, scalars_in_force
from crate_dsl.mathematics.fitting import fit, fitting_record
from crate_dsl.mathematics.statement import (
    Statement,
    causal_record,
    fitted_parameter,
    inserted,
    introduced_parameter,
    let_record,
    norm_record,
    stated,
    substituted,
    used,
    without_constraints,
)


def derive_gradient_step(statement: Statement) -> DerivedStep:
    """`Z+ = Z -+ kappa grad E(Z)`, rewritten at its sites, the norm put in at the end.

    Raises:
        CrateError: for an atom without derivative, a site that is absent, a rule that cannot be applied.
    """
    step, tokens = statement.step, statement.tokens
    slope = gradient(statement.energy, tokens)
    if slope.is_zero:
        raise fail(f'"{step.energy.name}" does not depend on {tokens.name}', step.span, "its gradient is zero")
    update = exact_update(statement, slope)
    record = [
        stated(statement),
        *let_record(statement),
        DerivationStep("gradient", statement.energy, slope, "reverse mode over the atoms", EXACT, step.span),
        DerivationStep("step", slope, update, _direction_text(statement), EXACT, step.span),
    ]
    update, introduced, fitted, rewritings = _approximate(statement, update)
    record += rewritings
    if statement.sizes is not None:
        record.append(_scaling(statement, update))
        update = record[-1].after
    fitted = tuple(replace(f, value=substituted(f.value, tokens, statement.read)) for f in fitted)
    quantities, fitted = fit(statement, fitted)
    record += fitting_record(statement, quantities, fitted)
    placed = inserted(dissolved(update), tokens, statement.skip, statement.read)
    result = statement.result
    record += norm_record(statement, update, placed)
    record += causal_record(statement, result, placed)
    objective = Objective(
        without_constraints(statement.energy),
        tokens,
        Form.leaf(statement.read),
        Form.leaf(result),
        step.norm is not None,
    )
    return DerivedStep(
        step,
        statement.raw,
        statement.read,
        _assignments(statement, placed, result),
        result,
        used(statement.parameters + introduced, placed, quantities=quantities)
        + tuple(fitted_parameter(f, statement) for f in fitted),
        objective,
        tuple(record),
        statement.size,
        quantities,
        fitted,
    )


def _scaling(statement: Statement, update: Form) -> DerivationStep:
    """`Z + Diag(gamma) (T(Z) - Z)`: a step size per feature stands outside all approximations and biases."""
    tokens = Form.leaf(statement.tokens)
    scaled = tokens + diagonal(statement.sizes) @ (update - tokens)
    return DerivationStep("step size", update, scaled, "one for each feature of the tokens", EXACT, statement.step.span)


def _assignments(statement: Statement, placed: Form, result: Leaf) -> tuple[Assignment, ...]:
    """The step; with a size per feature its direction is a value of its own, which is then scaled once."""
    if statement.sizes is None:
        return (Assignment(result, placed),)
    scale = diagonal(statement.sizes).words[0].factors[:1]
    moved = [word for word in placed.words if word.factors[:1] == scale]
    rest = tuple(word for word in placed.words if word not in moved)
    step = Leaf(f"{statement.tokens.name}^step", result.rows, result.cols)
    direction = Form.of(result.rows, result.cols, (replace(word, factors=word.factors[1:]) for word in moved))
    last = Form(result.rows, result.cols, (*rest, Word(sympy.Integer(1), (*scale, step))))
    return Assignment(step, direction), Assignment(result, last)


def exact_update(statement: Statement, slope: Form) -> Form:
    """`Z - kappa slope`, or `Z + kappa slope` where the step ascends; a kappa per head goes inside the family's sum."""
    sign = 1 if statement.step.ascends else -1
    moved = [_stepped(word, statement, sign) for word in slope.words]
    return Form.of(slope.rows, slope.cols, [Word(sympy.Integer(1), (statement.tokens,)), *moved])


def _stepped(word: Word, statement: Statement, sign: int) -> Word:
    size = statement.size
    for index in scalar_indices(size):
        if not word.over:
            raise fail("a step size per head needs a sum over the heads", statement.step.span)
        size = rename_index(size, index, word.over[0][0])
    return replace(word, coefficient=sign * size * word.coefficient)


def _direction_text(statement: Statement) -> str:
    if statement.step.verb == "denoise":
        return "one explicit step up the gradient: compression with time reversed"
    if statement.step.ascends:
        return "one explicit step up the gradient"
    return "one explicit step down the gradient"


Approximated = tuple[Form, tuple[Parameter, ...], tuple[Fitted, ...], tuple[DerivationStep, ...]]


def _approximate(statement: Statement, update: Form) -> Approximated:
    """Apply the sites in the order of the file."""
    introduced, fitted, record = [], [], []
    for line in statement.step.sites:
        rule = SITES[line.site][line.rule]
        rewriting = _apply(rule, line, statement, update)
        kind = CHOICE if rule.choice else APPROXIMATION
        name = f"{line.site} ~ {rule.name}"
        record.append(DerivationStep(name, update, rewriting.form, rule.assumption, kind, line.span))
        introduced += [introduced_parameter(new, statement) for new in rewriting.introduced]
        fitted += rewriting.fitted
        update = rewriting.form
    return update, tuple(introduced), tuple(fitted), tuple(record)


def _apply(rule: Rule, line: SiteRule, statement: Statement, update: Form) -> Rewriting:
    context = context_of(line, statement)
    try:
        return rule.apply(update, context)
    except Absent:
        sites = ", ".join(present(update, context)) or "none"
        hint = f"at this point it has these sites: {sites}"
        raise fail(f'the expression has no site "{line.site}"', line.span, f"{hint}\nit reads: {update}") from None
    except Refusal as refusal:
        raise fail(f'"{line.site} ~ {line.rule}" does not apply: {refusal}', line.span) from None


def context_of(line: SiteRule, statement: Statement) -> Context:
    """The rule's arguments: bare words stay words, everything else is a scalar."""
    model, block, step = statement.model, statement.block, statement.step
    scope = Scope({}, scalars_in_force(model, block), numbers_in_force(model, block, step))
    words = tuple(a.name for a in line.arguments if isinstance(a, Name) and a.name not in scope.scalars)
    scalars = tuple(express(a, scope).value for a in line.arguments if not (isinstance(a, Name) and a.name in words))
    return Context(statement.tokens, scalars, words, statement.block.sizes, statement.size)
