"""Quantities of a step: `let Pi[k in K] = softmax(k in K) ...`, computed from the tokens, held by the derivation."""

from __future__ import annotations

from dataclasses import replace

from crate_dsl.errors import known
from crate_dsl.language import syntax
from crate_dsl.language.model import TAKEN, Energy, Let, Shape
from crate_dsl.language.report import names_in, within
from crate_dsl.language.roles import Block, Tokens, add_declared, outside
from crate_dsl.language.shapes import IDENTITY, Environment, Shapes


def check_lets(statement: syntax.StepStatement, energy: Energy, tokens: Tokens, block: Block) -> None:
    """Put the lets of a step into its block, None for one that has been complained about.

    A let may use numbers, the tokens, earlier lets, declared matrices and the learned matrices of the step's energy; a
    given quantity is known to all of them, and its estimate may use them all and what the step freezes.
    """
    options = [option for option in statement.options if isinstance(option, syntax.LetOption)]
    options.sort(key=lambda option: option.given)
    block.lets = {}
    environment = _environment(statement, energy, tokens, block)
    for place, option in enumerate(options):
        if option.given:
            block.lets[option.name] = _estimated(option, statement, environment, tokens, block)
            continue
        later = {
            other.name: "it is computed further down: quantities use those above them"
            for other in options[place:]
            if not other.given
        }
        let = _checked(option, replace(environment, refused=later), tokens, block)
        block.lets[option.name] = let
        if let is None:
            environment = replace(environment, broken=environment.broken | {option.name})
        else:
            place = within(option.span, option.name)
            environment = replace(
                environment,
                shapes={**environment.shapes, let.name: let.shape},
                origins={**environment.origins, let.name: place},
            )
    _warn_unused(options, statement, block)


def _environment(statement: syntax.StepStatement, energy: Energy, tokens: Tokens, block: Block) -> Environment:
    options = [option for option in statement.options if isinstance(option, syntax.LetOption)]
    lets, givens = {option.name for option in options}, {option.name for option in options if option.given}
    shapes = {name: declared.shape for name, declared in block.declared.items()}
    origins = {name: declared.span for name, declared in block.declared.items()}
    for argument, name in zip(energy.arguments, statement.use.variables + statement.use.given, strict=False):
        runs = tokens.shape.cols in (argument.shape.rows, argument.shape.cols)
        if not (argument.shape.is_scalar or runs or name.name in {*lets, *shapes, *block.scalars.shapes, tokens.name}):
            shapes[name.name], origins[name.name] = argument.shape, name.span
        if name.name in givens:
            shapes[name.name], origins[name.name] = argument.shape, name.span
    shapes |= {**block.scalars.shapes, tokens.name: tokens.shape}
    origins |= {**block.scalars.origins, tokens.name: tokens.span}
    return Environment(shapes, origins, block.scope.axes, quantities=True)


def _checked(option: syntax.LetOption, environment: Environment, tokens: Tokens, block: Block) -> Let | None:
    before = len(block.report.errors)
    _check_name(option, environment, tokens, block)
    environment = _indexed(option, environment, block)
    shapes = Shapes(block.vocabulary)
    shape = shapes.of(option.value, environment)
    block.report.absorb(*shapes.diagnostics)
    if shape == IDENTITY:
        block.report.error("the size of this I is not known", option.value.span)
    _per_head(option, block)
    if shape is None or len(block.report.errors) > before:
        return None
    if option.family and not _varies(option, environment, block):
        hint = f'without it: "let {option.name} = ..."'
        block.report.error(f'this does not depend on "{option.index}"', option.value.span, hint)
        return None
    for name in dict.fromkeys(names_in(option.value)):  # in the order of the text, whatever the order of sets
        if name in block.declared:
            add_declared(name, block)
    shape = replace(shape, family=option.family)
    return Let(option.name, option.index, shape, option.value, option.span, option.given)


def _estimated(
    option: syntax.LetOption, statement: syntax.StepStatement, environment: Environment, tokens: Tokens, block: Block
) -> Let | None:
    """A given quantity with its estimate, which must have the shape of the argument that it stands for."""
    declared = environment.shapes.get(option.name)
    if declared is None:
        hint = "it stands for an argument of the step's energy"
        block.report.error(f'"{option.name}" is given and not used', within(option.span, option.name), hint)
        return None
    inside = replace(environment, shapes={**environment.shapes, **_frozen(option, statement, tokens)})
    let = _checked(option, inside, tokens, block)
    if let is not None and let.shape != declared:
        message = f'the estimate of "{option.name}" is {let.shape}, and {declared} should stand here'
        block.report.error(message, option.value.span, "", [(environment.origins[option.name], "it stands here")])
        return None
    return let


def _frozen(option: syntax.LetOption, statement: syntax.StepStatement, tokens: Tokens) -> dict[str, Shape]:
    """What the step freezes by name: maps of the tokens, families where the estimate reads them so."""
    indexed = {name.name for name in _names(option.value) if name.index}
    lines = (line for line in statement.options if isinstance(line, syntax.SiteLine) and line.rule.name == "frozen")
    names = {a.name for line in lines for a in line.rule.arguments[1:] if isinstance(a, syntax.Name)}
    rows = tokens.shape.rows
    return {name: Shape(rows, rows, option.family if name in indexed else None) for name in names}


def _check_name(option: syntax.LetOption, environment: Environment, tokens: Tokens, block: Block) -> None:
    """A let has a name of its own."""
    place, name = within(option.span, option.name), option.name
    if name in TAKEN:
        block.report.error(f'a quantity cannot be called "{name}"', place, TAKEN[name])
    elif name in environment.shapes and not option.given:
        origin = environment.origins.get(name)
        notes = [(origin, "the first is here")] if origin else []
        block.report.error(f'"{name}" has a meaning already', place, "a quantity needs a name of its own", notes)


def _indexed(option: syntax.LetOption, environment: Environment, block: Block) -> Environment:
    """The environment with the let's own index."""
    if option.index is None or option.family is None:
        return environment
    if option.family not in environment.families:
        place = within(option.span, option.family, occurrence=0)
        hint = known("sizes", option.family, environment.families)
        block.report.error(f'"{option.family}" is not a size to run over', place, hint)
    elif option.index in environment.shapes:
        place = within(option.span, option.index)
        block.report.error(f'the index "{option.index}" has a meaning already', place, "an index needs its own name")
    return replace(environment, indices={option.index: option.family})


def _per_head(option: syntax.LetOption, block: Block) -> None:
    """Scalars per head stand inside the let's family, or inside a sum."""
    for name in dict.fromkeys(names_in(option.value)):
        learned = block.learned.get(name)
        if learned is None or not learned.per_head:
            continue
        sums = {node.family for node in syntax.walk(option.value) if isinstance(node, syntax.FamilySum)}
        sums |= {option.family} if option.family else set()
        if not sums:
            hint = f'give the let an index: "let {option.name}[k in K] = ..."'
            block.report.error(f'"{name}" is learned per head, and there are no heads here', option.value.span, hint)
            continue
        family = sums.pop() if len(sums) == 1 else None
        learned.belongs_to(family, option.value.span, block.report)
        if option.family is None and family:
            for place in outside(option.value, name, family):
                message = f'"{name}" is learned per head, and stands outside a sum over {family} here'
                block.report.error(message, place, f'give the let an index: "let {option.name}[k in {family}] = ..."')


def _varies(option: syntax.LetOption, environment: Environment, block: Block) -> bool:
    """Whether a member of a family, or a scalar per head, stands in it."""
    return any(
        name.index == option.index or (name.name in block.learned and block.learned[name.name].per_head)
        for name in _names(option.value)
    )


def _names(expression: syntax.Expression) -> list[syntax.Name]:
    return [node for node in syntax.walk(expression) if isinstance(node, syntax.Name)]


def _warn_unused(options: list[syntax.LetOption], statement: syntax.StepStatement, block: Block) -> None:
    used = {name.name for name in statement.use.variables + statement.use.given}
    for option in reversed(options):
        if option.name not in used:
            block.report.warn(f'quantity "{option.name}" is not used', within(option.span, option.name))
        used |= set(names_in(option.value))
