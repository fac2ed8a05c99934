"""Model -> Derivation: every step's operator from its stated energy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from crate_dsl.errors import CrateError, Diagnostic
from crate_dsl.language.model import Block, Model, Step
from crate_dsl.mathematics.derivation import Derivation, DerivedBlock, DerivedStep
from crate_dsl.mathematics.gradient_step import derive_gradient_step
from crate_dsl.mathematics.invert import invert
from crate_dsl.mathematics.penalty import derive_penalties
from crate_dsl.mathematics.prox_step import derive_prox_step
from crate_dsl.mathematics.proximal_step import derive_proximal_step
from crate_dsl.mathematics.reading import check_reading
from crate_dsl.mathematics.statement import Statement, state
from crate_dsl.mathematics.synthesis_step import derive_synthesis_step

GENERAL: dict[str, Callable[[Statement], DerivedStep]] = {
    "prox": derive_prox_step,
    "project": derive_prox_step,
    "solve": derive_synthesis_step,
}


def derive(model: Model) -> Derivation:
    """Derive every block once, whatever its number of layers.

    Raises:
        CrateError: with everything that cannot be derived, in the order of the file.
    """
    blocks, problems = [], []
    for block in model.blocks:
        try:
            blocks.append(_derive_block(model, block))
        except CrateError as error:
            problems += error.diagnostics
    try:
        penalties = derive_penalties(model, {block.block.role: block.block for block in blocks})
    except CrateError as error:
        problems += error.diagnostics
    if problems:
        raise CrateError(*sorted(set(problems), key=_place))
    return Derivation(model, tuple(blocks), penalties)


def _place(diagnostic: Diagnostic) -> int:
    return diagnostic.span.start if diagnostic.span else 0


def _derive_block(model: Model, block: Block) -> DerivedBlock:
    block, record = invert(block) if block.inverse_of else (block, ())
    steps, problems = [], []
    for step in block.steps:
        try:
            steps.append(derive_step(model, block, step))
        except CrateError as error:  # the algebra knows no places
            problems += [replace(found, span=found.span or step.span) for found in error.diagnostics]
    if problems:
        raise CrateError(*problems)
    return DerivedBlock(block, tuple(steps), record)


def derive_step(model: Model, block: Block, step: Step) -> DerivedStep:
    """One step: descent or ascent on the tokens, a proximal step on a code, or synthesis from a code."""
    statement = state(model, block, step)
    derived = _rule_for(statement)(statement)
    check_reading(derived)
    return derived


def _rule_for(statement: Statement) -> Callable[[Statement], DerivedStep]:
    """A gradient step on the tokens themselves; a proximal one on an unknown variable; else a synthesis."""
    step = statement.step
    if step.verb in GENERAL:
        return GENERAL[step.verb]
    if step.unknown is None:
        return derive_gradient_step
    variables = {argument.name for argument in step.energy.variables}
    argument = next(name for name, actual in step.actuals.items() if actual == step.unknown)
    return derive_proximal_step if argument in variables else derive_synthesis_step
