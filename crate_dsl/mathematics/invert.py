"""`decoder = inverse(encoder)`: a block derived from another by inverting its steps in reverse order.

Compression discretises `dZ = -grad E dt`; its reversal in time `dZ = +grad E dt` is discretised by an explicit step of
ascent. Sparse coding `A` of `X = D A` is undone by the synthesis `X = D A` (Pai et al. 2024, CRATE-MAE). Only the
synthesis is an exact inverse where the code is exact; the certificate measures both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from crate_dsl.errors import fail
from crate_dsl.language.model import Block, Step
from crate_dsl.mathematics.derivation import APPROXIMATION, DerivationStep


def invert(block: Block) -> tuple[Block, tuple[DerivationStep, ...]]:
    """The block with its steps inverted and reversed, and the record of it.

    Raises:
        CrateError: for a step with a decoupled read-out, which has no inverse by these rules.
    """
    steps = _labelled(tuple(_inverted(step, block) for step in reversed(block.steps)))
    record = tuple(
        DerivationStep("inverse", old.title, new.title, _why(new), APPROXIMATION, block.span)
        for old, new in zip(reversed(block.steps), steps, strict=True)
    )
    return replace(block, steps=steps), record


def _inverted(step: Step, block: Block) -> Step:
    for refused, message, where in (
        (step.read, f"{step.verb} with a decoupled read-out has no inverse", "read here"),
        (step.unknown and step.residual, f"{step.verb} with a skip is not undone by a synthesis", "skip here"),
        (step.verb in ("prox", "project", "solve"), f"{step.verb} has no inverse by these rules", "stated here"),
    ):
        if refused:
            hint = "state the decoder's steps instead of inverse(...)"
            raise fail(message, block.span, hint, [(step.span, where)])
    if step.verb == "denoise":
        raise fail("denoise is an inverse already", block.span, "", [(step.span, "stated here")])
    if step.unknown is None:
        return replace(step, verb={"descend": "ascend", "ascend": "descend"}.get(step.verb, "denoise"))
    return _synthesis(step, block)


def _synthesis(step: Step, block: Block) -> Step:
    """The code takes the tokens' place, the tokens become the unknown: `lasso(A | Z, D)` turns to `lasso(Z | A, D)`."""
    given = next((name for name, actual in step.actuals.items() if actual == step.tokens), None)
    if given is None:
        raise fail("a step that does not read the tokens has no inverse", block.span, "", [(step.span, "stated here")])
    unknown = step.unknown if given in step.actuals.values() else given  # the energy's own name for what is sought
    swap = {step.unknown: step.tokens, step.tokens: unknown}
    actuals: Mapping[str, str] = {name: swap.get(actual, actual) for name, actual in step.actuals.items()}
    stated = replace(step, verb="denoise", actuals=actuals, unknown=unknown)
    return replace(stated, size=None, iterations=1, start="tokens", residual=None, accelerate=False)


def _labelled(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Labels by the rule of the checker: the verb, with the energy's name where the verb repeats."""
    verbs = Counter(step.verb for step in steps)
    labels = [s.verb if verbs[s.verb] == 1 else f"{s.verb}_{s.energy.name}" for s in steps]
    repeated = Counter(labels)
    seen: Counter[str] = Counter()
    result = []
    for step, label in zip(steps, labels, strict=True):
        seen[label] += 1
        result.append(replace(step, label=label if repeated[label] == 1 else f"{label}_{seen[label]}"))
    return tuple(result)


def _why(step: Step) -> str:
    if step.unknown:
        return "the code is read back through a dictionary of its own"
    return "descent with time reversed, discretised by an explicit step"
