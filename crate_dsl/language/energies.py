"""Energies: declared arguments, a body that is one number, and what kind of step can optimise it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crate_dsl.errors import Span, known
from crate_dsl.language import syntax
from crate_dsl.language.model import ONE, SCALAR, TAKEN, Argument, Energy, Shape
from crate_dsl.language.report import Report, names_in, within
from crate_dsl.language.shapes import IDENTITY, Environment, Shapes
from crate_dsl.language.vocabulary import Vocabulary


@dataclass(frozen=True)
class Surroundings:
    """What energies may use beside their arguments: sizes as axes, scalars; `refused` names come with the reason."""

    axes: frozenset[str]
    scalars: dict[str, Span]
    refused: dict[str, str]
    any_axis: bool = False  # the tokens line is missing: its axis cannot be told from a typing mistake


def declare_energies(
    spec: syntax.Spec, around: Surroundings, vocabulary: Vocabulary, report: Report
) -> dict[str, Energy | None]:
    """All energies by name, None for one that has been complained about, or is included and not used."""
    found: dict[str, Energy | None] = {}
    places: dict[str, Span] = {}
    used = uses(spec)
    for item in (*spec.all(syntax.EnergyDeclaration), *spec.included):
        place = within(item.span, item.name)
        if item.name in found:
            report.error(
                f'energy "{item.name}" is declared twice', place, "", [(places[item.name], "the first is here")]
            )
            continue
        places[item.name] = place
        if item.name in vocabulary.atoms:
            report.error(f'"{item.name}" is a function of the library', place, "choose another name for the energy")
        if item in spec.included and item.name not in used:
            found[item.name] = None
            continue
        before = len(report.errors)
        energy = _declared(item, around, vocabulary, report)
        found[item.name] = energy if len(report.errors) == before else None
        if item in spec.included:
            report.add_note(before, (used[item.name], "it is used here"))
    return found


def uses(spec: syntax.Spec) -> dict[str, Span]:
    """The energies that the steps and the loss of a spec name, each with the place of its first use."""
    found: dict[str, Span] = {}
    for name, span in _uses(spec):
        found.setdefault(name, span)
    return found


def _uses(spec: syntax.Spec) -> Iterator[tuple[str, Span]]:
    for item in spec.items:
        if isinstance(item, syntax.BlockDeclaration):
            for step in item.all(syntax.StepStatement):
                yield step.use.name, step.use.span
        elif isinstance(item, syntax.LossLine):
            for term in item.terms:
                yield from ((call.name, call.span) for call in calls(term.product))


def _declared(item: syntax.EnergyDeclaration, around: Surroundings, vocabulary: Vocabulary, report: Report) -> Energy:
    broken: set[str] = set()
    variables = tuple(_argument(argument, around, broken, report) for argument in item.variables)
    given = tuple(_argument(argument, around, broken, report) for argument in item.given)
    energy = Energy(item.name, variables, given, item.body, within(item.span, item.name))
    if _distinct(variables + given, around, report):
        _check_body(energy, around, frozenset(broken), vocabulary, report)
    used = set(names_in(item.body))
    for argument in energy.arguments:
        if argument.name not in used:
            report.warn(f'argument "{argument.name}" of energy "{item.name}" is not used', argument.span)
    return energy


def _argument(argument: syntax.Argument, around: Surroundings, broken: set[str], report: Report) -> Argument:
    """The argument; its name joins the broken ones where an axis is unknown."""
    before = len(report.errors)
    shape = shape_from(argument.dimensions, around, report)
    if len(report.errors) > before:
        broken.add(argument.name)
    return Argument(argument.name, shape, argument.span)


def shape_from(dimensions: syntax.Dimensions, around: Surroundings, report: Report) -> Shape:
    """The shape that is declared, its axes checked."""
    if dimensions.rows is None or dimensions.cols is None:
        return SCALAR
    family = _axis(dimensions.family, around, report) if dimensions.family else None
    return Shape(_axis(dimensions.rows, around, report), _axis(dimensions.cols, around, report), family)


def _axis(axis: syntax.Expression, around: Surroundings, report: Report) -> str:
    if isinstance(axis, syntax.Number):
        if axis.value.denominator != 1 or not 1 <= axis.value <= 1_000_000:
            report.error("an axis is a size or a whole number of at least 1", axis.span)
            return ONE
        return str(axis.value)
    if axis.name not in around.axes and not around.any_axis:
        hint = known("sizes", axis.name, around.axes)
        report.error(f'unknown size "{axis.name}" in a shape', axis.span, around.refused.get(axis.name, hint))
    return axis.name


def _distinct(arguments: tuple[Argument, ...], around: Surroundings, report: Report) -> bool:
    """Whether every argument has a name of its own; otherwise the body cannot be judged."""
    seen: dict[str, Argument] = {}
    before = len(report.errors)
    for argument in arguments:
        place = within(argument.span, argument.name)
        if argument.name in seen:
            report.error(
                f'argument "{argument.name}" stands twice', place, "", [(seen[argument.name].span, "the first is here")]
            )
        elif argument.name in around.axes or argument.name in TAKEN:
            reason = TAKEN.get(argument.name, f'"{argument.name}" is a size')
            report.error(f'an argument cannot be called "{argument.name}"', place, reason)
        seen.setdefault(argument.name, argument)
    return len(report.errors) == before


def _check_body(
    energy: Energy, around: Surroundings, broken: frozenset[str], vocabulary: Vocabulary, report: Report
) -> None:
    shapes = Shapes(vocabulary)
    own = {argument.name: argument.shape for argument in energy.arguments}
    origins = {**around.scalars, **{argument.name: argument.span for argument in energy.arguments}}
    scalars = dict.fromkeys(around.scalars, SCALAR)
    environment = Environment({**scalars, **own}, origins, around.axes, {}, around.refused, broken)
    shape = shapes.of(energy.body, environment)
    report.absorb(*shapes.diagnostics)
    if shape is not None and not shape.is_scalar and not shapes.diagnostics:
        what = "I" if shape == IDENTITY else str(shape)
        hint = "total(M) adds the entries, norm2(M) their squares, l1(M) their absolute values"
        report.error(f'energy "{energy.name}" must be one number, and its body is {what}', energy.body.span, hint)


# ---- the kind of an energy -------------------------------------------------------------------------------------------


def depends(expression: syntax.Expression, name: str) -> bool:
    return name in names_in(expression)


def calls(expression: syntax.Expression) -> Iterator[syntax.Call]:
    """Every function call in an expression, outermost first."""
    return (node for node in syntax.walk(expression) if isinstance(node, syntax.Call))


def kinks(expression: syntax.Expression, variable: str, vocabulary: Vocabulary) -> list[syntax.Call]:
    """The calls without a gradient that depend on the variable."""
    return [
        call
        for call in calls(expression)
        if call.name in vocabulary.atoms and not vocabulary.atoms[call.name].smooth and depends(call, variable)
    ]


def without_rule(call: syntax.Call, tokens: str, vocabulary: Vocabulary) -> str:
    """What to do about a call that has neither gradient nor proximal map anywhere; empty where it has one somewhere."""
    atom = vocabulary.atoms[call.name]
    if atom.smooth or atom.separable or atom.columnwise:
        return ""
    let = f'"let Q = {call.name}({tokens})"'
    return f"it has no derivative rule and stands in a let, of the tokens: {let}, with Q handed over as an argument"


def terms(expression: syntax.Expression, variable: str) -> Iterator[syntax.Expression]:
    """The summands of an energy, without constant factors before them."""
    match expression:
        case syntax.Negate():
            yield from terms(expression.operand, variable)
        case syntax.Binary(operator="+" | "-"):
            yield from terms(expression.left, variable)
            yield from terms(expression.right, variable)
        case syntax.Binary(operator="*") if not depends(expression.left, variable):
            yield from terms(expression.right, variable)
        case syntax.Binary(operator="*" | "/") if not depends(expression.right, variable):
            yield from terms(expression.left, variable)
        case _:
            yield expression


def inseparable(energy: Energy, variable: str, vocabulary: Vocabulary) -> list[syntax.Call]:
    """The calls without gradient and without proximal map: not summands of their own, of the variable alone."""
    faulty = []
    for term in terms(energy.body, variable):
        alone = isinstance(term, syntax.Call) and term.arguments and term.arguments[0] in _bare(term, variable)
        for call in kinks(term, variable, vocabulary):
            if not (call is term and alone and vocabulary.atoms[call.name].separable):
                faulty.append(call)
    return faulty


def _bare(term: syntax.Call, variable: str) -> list[syntax.Expression]:
    return [a for a in term.arguments[:1] if isinstance(a, syntax.Name) and a.name == variable and a.index is None]
