"""One step of a layer: does its energy fit its verb, and do the shapes fit the tokens?"""

from __future__ import annotations

from crate_dsl.errors import known
from crate_dsl.language import syntax
from crate_dsl.language.energies import calls, depends, inseparable, kinks, without_rule
from crate_dsl.language.general import check_map, projection
from crate_dsl.language.lets import check_lets
from crate_dsl.language.model import Shape, Step
from crate_dsl.language.options import GRADIENT, MAP, PROXIMAL, SOLUTION, SYNTHESIS, Draft, Options, collect
from crate_dsl.language.report import within
from crate_dsl.language.roles import Block, Roles, Tokens, Weight, add_weight, find_energy, roles_of, signature


def check_step(statement: syntax.StepStatement, block: Block, label: str) -> Step | None:
    """The checked step, None after complaining."""
    before = len(block.report.errors)
    tokens, roles, energy = block.tokens, None, None
    if statement.verb == "project":
        statement, energy = projection(statement, block)
    options = collect(statement, block.report)
    if tokens and statement.verb != "project" and statement.tokens != tokens.name:
        place = within(statement.span, statement.tokens)
        block.report.error(
            f'unknown tokens "{statement.tokens}"', place, known("tokens", statement.tokens, [tokens.name])
        )
        tokens = None
    if statement.verb != "project":
        energy = find_energy(statement, block)
    if energy and tokens:
        check_lets(statement, energy, tokens, block)
        roles = roles_of(statement, energy, tokens, block)
    draft = Draft(statement, options, roles, _kind(statement, roles))
    if roles and tokens:
        _check_kind(draft, tokens, block)
    checked = Options(draft, block)
    if len(block.report.errors) > before or roles is None or tokens is None:
        return None
    return checked.step(label, tokens)


def _kind(statement: syntax.StepStatement, roles: Roles | None) -> str:
    kinds = {"sparsify": PROXIMAL, "prox": MAP, "project": MAP, "solve": SOLUTION}
    if statement.verb in kinds:
        return kinds[statement.verb]
    return SYNTHESIS if statement.verb == "denoise" and roles and roles.unknown else GRADIENT


# ---- does the energy fit the verb? -----------------------------------------------------------------------------------


def _check_kind(draft: Draft, tokens: Tokens, block: Block) -> None:
    roles, statement = draft.roles, draft.statement
    stands_for_variable = roles.actuals[roles.variable.name]
    if draft.kind == PROXIMAL:
        _check_proximal(draft, stands_for_variable, tokens, block)
    elif draft.kind == SOLUTION:
        _check_solution(draft, tokens, block)
    elif stands_for_variable != tokens.name:
        hint = (
            _denoise_hint(roles, tokens)
            if statement.verb == "denoise"
            else f"the variable of {signature(roles.energy)}"
        )
        message = (
            f'the variable of "{roles.energy.name}" is "{stands_for_variable}" here, not the tokens "{tokens.name}"'
        )
        block.report.error(message, statement.use.span, hint, [(roles.variable.span, "the variable is declared here")])
    elif draft.kind == SYNTHESIS:
        _check_synthesis(draft, tokens, block)
    elif draft.kind == MAP:
        check_map(draft, tokens, block)
    else:
        _check_gradient(draft, tokens, block)


def _denoise_hint(roles: Roles, tokens: Tokens) -> str:
    return f'denoise undoes the energy: the tokens stand for its variable, "{roles.energy.name}({tokens.name} | ...)"'


def _check_gradient(draft: Draft, tokens: Tokens, block: Block) -> None:
    energy, variable = draft.roles.energy, draft.roles.variable.name
    for call in kinks(energy.body, variable, block.vocabulary)[:1]:
        place = draft.statement.use.span
        message = f'"{call.name}" in "{energy.name}" has no gradient, and {draft.statement.verb} needs one'
        hint = without_rule(call, tokens.name, block.vocabulary) or _without_gradient(draft, tokens)
        block.report.error(message, place, hint, [(call.span, "it stands here")])
    if not depends(energy.body, variable):
        _no_dependence(draft, variable, block)


def _without_gradient(draft: Draft, tokens: Tokens) -> str:
    """The step that fits an energy without a gradient."""
    energy, name = draft.roles.energy, tokens.name
    others = [a.name for a in energy.given if tokens.shape.cols in (a.shape.rows, a.shape.cols)]
    if draft.statement.verb == "denoise":
        return f'with a fresh {others[0]} it is a synthesis: "{energy.name}({name} | X, ...)"' if others else ""
    if draft.statement.verb in ("descend", "ascend") and not others:
        return f'"prox {name} by ..." applies the proximal map of a penalty or a constraint'
    if others:
        return f'"sparsify" fits: it takes proximal steps, "sparsify {name} by {energy.name}(A | {name}, ...)"'
    return f'"sparsify" fits an energy of an unknown beside the tokens: "sparsify {name} by lasso(A | {name}, D)"'


def _no_dependence(draft: Draft, name: str, block: Block) -> None:
    energy = draft.roles.energy
    message = f'"{energy.name}" does not depend on "{name}"'
    block.report.error(
        message, draft.statement.use.span, "there is nothing to optimise", [(energy.span, "it is declared here")]
    )


def _check_proximal(draft: Draft, variable: str, tokens: Tokens, block: Block) -> None:
    roles, place = draft.roles, draft.statement.use.span
    name, energy = roles.variable.name, roles.energy
    smooth = not kinks(energy.body, name, block.vocabulary)
    if roles.unknown is None or variable != roles.unknown.name:
        hint = f'left of the bar stands a fresh name, "sparsify {tokens.name} by lasso(A | {tokens.name}, D)"'
        if smooth:
            hint = f'"{energy.name}" has a gradient everywhere: "compress {tokens.name} by {energy.name}(...)" fits'
        note = (roles.variable.span, "the variable is declared here")
        block.report.error("sparsify seeks a code of the tokens, and this step has no unknown", place, hint, [note])
        return
    if smooth:
        hint = _without_penalty(name, draft, tokens)
        message = f'sparsify needs a penalty without a gradient, and "{energy.name}" has none'
        block.report.error(message, place, hint, [(energy.span, "it is declared here")])
    for call in inseparable(energy, name, block.vocabulary):
        usage = f"a penalty is a term of its own, of {name} alone: lambda * {call.name}({name})"
        if block.vocabulary.atoms[call.name].columnwise:
            usage = f'a constraint on the tokens is a step of its own: "project {call.name}"'
        message = f'"{call.name}" in "{energy.name}" has no proximal map where it stands'
        usage = without_rule(call, tokens.name, block.vocabulary) or usage
        block.report.error(message, place, usage, [(call.span, "it stands here")])
    _check_code(draft, tokens, block)


def _check_code(draft: Draft, tokens: Tokens, block: Block) -> None:
    """The code takes the place of the tokens, or is read out through a matrix."""
    unknown = draft.roles.unknown
    notes = [
        (draft.roles.variable.span, f"{unknown.name} is {unknown.shape}"),
        (tokens.span, f"the tokens are {tokens.shape}"),
    ]
    read = draft.options.get("read")
    if unknown.shape.cols != tokens.shape.cols or unknown.shape.family or (not read and unknown.shape != tokens.shape):
        message = f'the code "{unknown.name}" ({unknown.shape}) cannot take the place of the tokens ({tokens.shape})'
        hint = f'read it out through a matrix of shape {tokens.shape.rows} x {unknown.shape.rows}: "read D1"'
        block.report.error(message, unknown.span, hint if not unknown.shape.family else "", notes)
    elif read:
        weight = Weight(read.name, Shape(tokens.shape.rows, unknown.shape.rows), within(read.span, read.name))
        if read.name in block.scalars.shapes or read.name in (tokens.name, unknown.name):
            block.report.error(f'"{read.name}" is not a learned matrix', weight.span, "read names a matrix: read D1")
        else:
            add_weight(weight, block)


def _without_penalty(name: str, draft: Draft, tokens: Tokens) -> str:
    """What to do where all of an energy is smooth in the code."""
    body = draft.roles.energy.body
    smooth = ", ".join(sorted({call.name for call in calls(body) if depends(call, name)}))
    differentiated = f"differentiated, not thresholded: {smooth}; " if smooth else ""
    return f'{differentiated}add a penalty of the entries, such as l1({name}), or use "compress {tokens.name} by ..."'


def _check_synthesis(draft: Draft, tokens: Tokens, block: Block) -> None:
    roles = draft.roles
    unknown, energy = roles.unknown, roles.energy
    name = next(argument for argument, actual in roles.actuals.items() if actual == unknown.name)
    if unknown.shape != tokens.shape:
        message = f'"{unknown.name}" ({unknown.shape}) cannot take the place of the tokens ({tokens.shape})'
        block.report.error(message, unknown.span, "", [(tokens.span, "the tokens come from here")])
    for call in kinks(energy.body, name, block.vocabulary)[:1]:
        message = f'"{energy.name}" cannot be solved for "{unknown.name}": "{call.name}" has no gradient'
        hint = without_rule(call, tokens.name, block.vocabulary)
        block.report.error(message, draft.statement.use.span, hint, [(call.span, "it stands here")])
    if not depends(energy.body, name):
        _no_dependence(draft, name, block)


def _check_solution(draft: Draft, tokens: Tokens, block: Block) -> None:
    """An unknown that the tokens are given beside, and an energy with a gradient in it."""
    roles, place = draft.roles, draft.statement.use.span
    if roles.unknown is None:
        hint = f'a fresh name stands for it: "solve {tokens.name} by ridge(A | {tokens.name}, D)"'
        block.report.error("solve needs an unknown, and every argument is known here", place, hint,
                           [(roles.variable.span, "the variable is declared here")])  # fmt: skip
        return
    energy = roles.energy
    name = next(argument for argument, actual in roles.actuals.items() if actual == roles.unknown.name)
    for call in kinks(energy.body, name, block.vocabulary)[:1]:
        message = f'"{energy.name}" cannot be solved for "{roles.unknown.name}": "{call.name}" has no gradient'
        sparsify = f'"sparsify" takes proximal steps: "sparsify {tokens.name} by {energy.name}(...)"'
        hint = without_rule(call, tokens.name, block.vocabulary) or sparsify
        block.report.error(message, place, hint, [(call.span, "it stands here")])
    if not depends(energy.body, name):
        _no_dependence(draft, name, block)
    _check_code(draft, tokens, block)
