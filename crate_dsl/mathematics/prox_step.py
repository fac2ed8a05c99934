"""`prox` and `project`: the proximal map of an energy, applied to the tokens themselves.

`Z+ = argmin_X 1/2 |X - Z|^2 + eta g(X)` (Parikh & Boyd 2014, section 1.1). Penalties of the entries have a map of one
entry; the indicator of a constraint on every column has the projection onto it, whatever eta; a quadratic energy has
the solution of a linear equation, `X + eta grad g(X) = Z`, the implicit gradient step.
"""

from __future__ import annotations

from collections.abc import Callable

from crate_dsl.errors import CrateError, fail
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Form
from crate_dsl.library.products import applied
from crate_dsl.library.tree import Apply, Matrix, Tree
from crate_dsl.mathematics.derivation import EXACT, Assignment, DerivationStep, DerivedStep, Objective
from crate_dsl.mathematics.differentiate import gradient
from crate_dsl.mathematics.proximal_step import Term, penalty_prox, prox_line, split
from crate_dsl.mathematics.statement import Statement, norm_record, stated, substituted, used, without_constraints
from crate_dsl.mathematics.synthesis_step import solved

Derived = tuple[Assignment, tuple[DerivationStep, ...], Form]  # the step, its record, the operator on plain tokens


def derive_prox_step(statement: Statement) -> DerivedStep:
    """One application of the map to the tokens as the step reads them; its value takes their place.

    Raises:
        CrateError: where no rule gives the map.
    """
    smooth, penalties = split(statement.energy, statement.tokens)
    rule = _projected if _projection(smooth) else _by_entry if penalties and not smooth else _implicit
    assignment, lines, plain = rule(statement, smooth, penalties)
    placed = assignment.value
    objective = Objective(
        without_constraints(statement.energy),
        statement.tokens,
        Form.leaf(statement.read),
        Form.leaf(assignment.target),
        False,
    )
    record = (stated(statement), *lines, *norm_record(statement, plain, placed))
    parameters = used(statement.parameters, placed)
    return DerivedStep(
        statement.step, statement.raw, statement.read, (assignment,), assignment.target, parameters, objective, record,
        statement.size,
    )  # fmt: skip


# ---- penalties of the entries --------------------------------------------------------------------------------------


def _by_entry(statement: Statement, smooth: list[Term], penalties: list[Term]) -> Derived:
    prox = penalty_prox(penalties, statement.tokens, statement)
    line = prox_line(penalties, prox, statement)
    value = Form.leaf(statement.read)
    return Assignment(statement.result, value, prox), (line,), Form.leaf(statement.tokens)


# ---- constraints on the columns ------------------------------------------------------------------------------------


def _projection(terms: list[Term]) -> Callable[[Form], Form] | None:
    """The projection onto the one constraint that is stated, if it is one."""
    if len(terms) != 1 or not _is_bare(terms[0].tree):
        return None
    name = ATOMS[terms[0].tree.atom].projection
    return (lambda form: applied(name, form)) if name else None


def _is_bare(tree: Tree) -> bool:
    return isinstance(tree, Apply) and tree.atom in ATOMS and isinstance(tree.arguments[0], Matrix)


def _projected(statement: Statement, smooth: list[Term], penalties: list[Term]) -> Derived:
    project = _projection(smooth)
    plain = project(Form.leaf(statement.tokens))
    why = "the nearest point of the constraint, column by column"
    line = DerivationStep("projection", Form.leaf(statement.tokens), plain, why, EXACT, statement.step.span)
    return Assignment(statement.result, project(Form.leaf(statement.read))), (line,), plain


# ---- quadratic energies --------------------------------------------------------------------------------------------


def _implicit(statement: Statement, smooth: list[Term], penalties: list[Term]) -> Derived:
    """Solve `X + eta grad g(X) = Z`; raises CrateError where that is not linear in X."""
    tokens, result, step = statement.tokens, statement.result, statement.step
    slope = gradient(statement.energy, tokens)
    at = substituted(slope, tokens, result).scaled(statement.size)
    condition = at + Form.leaf(result) - Form.leaf(tokens)
    try:
        plain = solved(condition, result, statement)
    except CrateError:
        hint = f"penalties of the entries of {tokens.name} have one, and energies that are quadratic in {tokens.name}"
        raise fail(f'no proximal map of "{step.energy.name}" is known', step.span, hint) from None
    why = "X + eta grad g(X) = Z at the proximal map of Z, which is linear in X"
    lines = (
        DerivationStep("gradient", statement.energy, slope, "reverse mode over the atoms", EXACT, step.span),
        DerivationStep("solve", condition, Assignment(result, plain), why, EXACT, step.span),
    )
    return Assignment(result, substituted(plain, tokens, statement.read)), lines, plain
