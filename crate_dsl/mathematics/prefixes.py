"""Numbers of a causal step, in which the number of tokens grows: they must have a value for every prefix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from crate_dsl.errors import CrateError, Diagnostic
from crate_dsl.language import syntax
from crate_dsl.language.model import Block, Model, Step
from crate_dsl.language.report import names_in
from crate_dsl.mathematics.gradient_step import context_of
from crate_dsl.mathematics.statement import state

SHORT = 32  # prefixes that are tried; 1 / (N - 1) has no value for the first, log(log(N)) neither


def check_prefixes(model: Model, block: Block, step: Step) -> None:
    """Refuse a causal step one of whose numbers has no value while the tokens are few.

    Raises:
        CrateError: where the number stands.
    """
    tokens = model.tokens
    if not step.causal or not any(tokens.cols in names_in(expression) for expression in _expressions(step)):
        return
    for count in range(1, min(SHORT, tokens.count) + 1):
        short = replace(model, tokens=replace(tokens, count=count), sizes={**model.sizes, tokens.cols: count})
        inside = replace(block, sizes={**block.sizes, tokens.cols: count})
        try:
            statement = state(short, inside, step)
            for line in step.sites:
                context_of(line, statement)
        except CrateError as error:
            raise CrateError(*(_explained(found, tokens.cols) for found in error.diagnostics)) from None


def _expressions(step: Step) -> Iterator[syntax.Expression]:
    yield step.energy.body
    yield from [step.size] if step.size is not None else []
    yield from (let.value for let in step.lets)
    yield from (argument for line in step.sites for argument in line.arguments)


def _explained(found: Diagnostic, tokens: str) -> Diagnostic:
    why = f"in a causal step {tokens} counts the tokens so far, from 1 on; 1/{tokens} has a value for all of them"
    return replace(found, hint="\n".join(filter(None, (found.hint, why))))
