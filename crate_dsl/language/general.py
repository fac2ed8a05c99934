"""The general verbs on the tokens themselves: proximal maps, and projections, which are those of a constraint."""

from __future__ import annotations

from dataclasses import replace

from crate_dsl.errors import known
from crate_dsl.language import syntax
from crate_dsl.language.energies import depends, inseparable, kinks, terms, without_rule
from crate_dsl.language.model import Argument, Energy
from crate_dsl.language.options import Draft
from crate_dsl.language.roles import Block, Tokens


def projection(statement: syntax.StepStatement, block: Block) -> tuple[syntax.StepStatement, Energy | None]:
    """`project sphere` as `prox Z by sphere(Z)`, the energy being the constraint; None after complaining."""
    place, name = statement.use.span, statement.use.name
    constraints = {n for n, atom in block.vocabulary.atoms.items() if atom.columnwise}
    if name not in constraints:
        message = f'the tokens cannot be projected onto "{name}"'
        block.report.error(message, place, known("constraints on a token", name, constraints))
        return statement, None
    if block.tokens is None:
        return statement, None
    tokens = syntax.Name(place, block.tokens.name)
    variable = Argument(tokens.name, block.tokens.shape, block.tokens.span)
    energy = Energy(name, (variable,), (), syntax.Call(place, name, (tokens,)), place)
    use = replace(statement.use, given=(tokens,))
    return replace(statement, tokens=tokens.name, use=use), energy


def check_map(draft: Draft, tokens: Tokens, block: Block) -> None:
    """Penalties of the entries, or one constraint on the columns, or an energy with a gradient; nothing mixed."""
    energy, variable, place = draft.roles.energy, draft.roles.variable.name, draft.statement.use.span
    if not depends(energy.body, variable):
        message = f'"{energy.name}" does not depend on "{variable}"'
        block.report.error(message, place, "its proximal map changes nothing", [(energy.span, "it is declared here")])
    rough = kinks(energy.body, variable, block.vocabulary)
    columnwise = [call for call in rough if block.vocabulary.atoms[call.name].columnwise]
    summands = [term for term in terms(energy.body, variable) if depends(term, variable)]
    if columnwise and len(summands) == 1 and _of(summands[0], variable):
        return
    for call in columnwise[:1]:
        message = f'"{call.name}" in "{energy.name}" has no proximal map beside other terms'
        hint = f"a projection stands alone: project {call.name}"
        block.report.error(message, place, hint, [(call.span, "it stands here")])
    for call in (c for c in inseparable(energy, variable, block.vocabulary) if c not in columnwise):
        usage = f"a penalty is a term of its own, of {variable} alone: lambda * {call.name}({variable})"
        usage = without_rule(call, tokens.name, block.vocabulary) or usage
        message = f'"{call.name}" in "{energy.name}" has no proximal map where it stands'
        block.report.error(message, place, usage, [(call.span, "it stands here")])
    smooth = [term for term in summands if rough and not _separable(term, variable, block)]
    for term in smooth[: not columnwise]:
        message = f'the proximal map of "{energy.name}" is known for its penalties, not beside this term'
        hint = f'take two steps: "descend {tokens.name} by ..." on this term, then "prox" on the penalties'
        block.report.error(message, place, hint, [(term.span, "it stands here")])


def _of(term: syntax.Expression, variable: str) -> bool:
    """Whether a term is a function of the bare variable."""
    return isinstance(term, syntax.Call) and [getattr(a, "name", "") for a in term.arguments[:1]] == [variable]


def _separable(term: syntax.Expression, variable: str, block: Block) -> bool:
    """Terms without a gradient have been judged before."""
    if kinks(term, variable, block.vocabulary):
        return True
    return _of(term, variable) and term.name in block.vocabulary.atoms and block.vocabulary.atoms[term.name].separable
