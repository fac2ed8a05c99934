"""The record of a derived step as equations: what stands left of each, which letters its products take."""

from __future__ import annotations

import sympy

from crate_dsl.library.form import Form, Leaf
from crate_dsl.library.tree import Tree
from crate_dsl.mathematics.derivation import Assignment, DerivationStep, DerivedStep, Prox
from crate_dsl.mathematics.equations import (
    NOTHING,
    Equation,
    Left,
    ProxOf,
    closed_form,
    of_entry,
    summed,
)
from crate_dsl.mathematics.proximal_step import entry_leaf, split
from crate_dsl.mathematics.sharing import Letters, shared

HELD = {"let", "fit", "given"}  # rules that say what a quantity is
RESERVED = frozenset({"I", "f", "g", "v", "z"})
Shown = tuple[Equation | None, tuple[Equation, ...]]  # what a line starts from, where it is not known; its results


def record_lines(derived: DerivedStep, names: frozenset[str]) -> list[Shown]:
    """The equations of every line of the record; `names` are taken by sizes and reals."""
    letters, previous, lines = _letters(derived, names), None, []
    for line in derived.record:
        known = line.rule in ("energy", "prox", *HELD) or _known(line.before, previous)
        before = None if known else _equation(line, line.before, derived, letters)
        lines.append((before, _results(line, derived, letters)))
        previous = previous if line.rule in HELD else line.after
    return lines


def step_operator(derived: DerivedStep, names: frozenset[str]) -> tuple[Equation, ...]:
    """The assignments of a step, and the proximal map that they use; the letters continue those of the record."""
    letters = _letters(derived, names)
    for line in derived.record:
        _results(line, derived, letters)
    equations = [_assigned(assignment, derived, letters) for assignment in derived.assignments]
    proxes = {a.prox: a.size or derived.size for a in derived.assignments if a.prox}
    return (*equations, *(_prox_map(prox, size)[0] for prox, size in proxes.items()))


def energy_tree(derived: DerivedStep) -> Tree:
    """The stated energy, constraints and all."""
    return next(line.after for line in derived.record if line.rule == "energy")


def energy_name(derived: DerivedStep) -> Left:
    step = derived.step
    variables, given = (
        tuple(step.actuals[argument.name] for argument in side) for side in (step.energy.variables, step.energy.given)
    )
    return Left("energy", name=step.energy.name, variables=variables, given=given)


def _letters(derived: DerivedStep, names: frozenset[str]) -> Letters:
    own = {
        derived.raw.name,
        derived.step.unknown,
        *derived.step.actuals.values(),
        *(quantity.name for quantity in derived.quantities),
        *(p.name for p in derived.parameters),
    }
    return Letters(set(names | RESERVED) | {name for name in own if name})


def _known(before: Form | Tree | Assignment | str, previous: Form | Tree | Assignment | str | None) -> bool:
    """Whether a line starts from what the line above arrived at."""
    if isinstance(previous, Assignment) and not previous.prox and isinstance(before, Form):
        return previous.value.same(before)
    return before == previous


def _is_proximal(derived: DerivedStep) -> bool:
    return any(assignment.prox for assignment in derived.assignments)


# ---- results of a line ---------------------------------------------------------------------------------------------


def _results(line: DerivationStep, derived: DerivedStep, letters: Letters) -> tuple[Equation, ...]:
    if isinstance(line.after, Assignment) and line.rule == "prox":
        return _prox_equations(line.after, derived)
    result = _equation(line, line.after, derived, letters)
    if line.rule == "gradient" and _is_proximal(derived):
        smooth, _ = split(energy_tree(derived), derived.objective.variable)
        return (Equation(_function("f", derived.objective.variable), summed(smooth)), result)
    return (result,)


def _equation(
    line: DerivationStep, value: Form | Tree | Assignment | str, derived: DerivedStep, letters: Letters
) -> Equation:
    match value:
        case Assignment():
            return _assigned(value, derived, letters)
        case Form():
            return _of_form(_left_of(line, value, derived), value, letters)
        case str():
            return Equation(NOTHING, value)
    return Equation(_quantity(line, derived) if line.rule in HELD else energy_name(derived), value)


def _quantity(line: DerivationStep, derived: DerivedStep) -> Left:
    """The name of a let, or of what is kept of data."""
    quantity = next((q for q in derived.quantities if q.name == line.before), None)
    if quantity is None:
        fitted = next(f for f in derived.fitted if f.name == line.before)
        return Left("leaf", leaf=Leaf(fitted.name, fitted.shape.rows, fitted.shape.cols, fitted.index))
    if quantity.is_scalar:
        return Left("symbol", name=quantity.symbol().name)
    return Left("leaf", leaf=quantity.leaf)


def _left_of(line: DerivationStep, value: Form, derived: DerivedStep) -> Left:
    """What a form is: a gradient, the tokens after the step, or what an assignment assigns."""
    if line.rule in HELD:
        return _quantity(line, derived)
    if line.rule == "gradient":
        name = "f" if _is_proximal(derived) else derived.step.energy.name
        return Left("gradient", leaf=derived.objective.variable, name=name)
    if line.rule == "solve":
        return Left("zero")
    if derived.step.unknown is None:
        return Left("leaf", leaf=derived.result)
    targets = [a.target for a in derived.assignments if a.prox is None and a.value.same(value)]
    return Left("leaf", leaf=targets[0]) if targets else NOTHING


def _of_form(left: Left, value: Form, letters: Letters) -> Equation:
    short, definitions = shared(value, letters)
    return Equation(left, short, tuple(Equation(Left("leaf", leaf=d.name), d.product) for d in definitions))


def _assigned(assignment: Assignment, derived: DerivedStep, letters: Letters) -> Equation:
    equation = _of_form(Left("leaf", leaf=assignment.target), assignment.value, letters)
    if assignment.prox is None:
        return equation
    return Equation(equation.left, ProxOf(equation.right, assignment.size or derived.size), equation.where)


def _prox_equations(line: Assignment, derived: DerivedStep) -> tuple[Equation, ...]:
    """The penalty of one entry, its proximal map by cases, and in closed form where there is one."""
    variable = derived.objective.variable
    penalties = [of_entry(term, variable) for term in split(energy_tree(derived), variable)[1]]
    return (Equation(_function("g", entry_leaf("z")), summed(penalties)), *reversed(_prox_map(line.prox, derived.size)))


def _prox_map(prox: Prox, size: sympy.Expr) -> list[Equation]:
    """The closed form first, where there is one."""
    left, closed = Left("prox", size=size), closed_form(prox)
    return ([Equation(left, closed)] if closed else []) + [Equation(left, prox)]


def _function(name: str, variable: Leaf) -> Left:
    return Left("energy", name=name, variables=(variable.name,))
