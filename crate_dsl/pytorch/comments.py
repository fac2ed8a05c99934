"""What the written file says of the mathematics: energies as stated, formulas as derived, and why the code differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import sympy

from crate_dsl.language.model import written
from crate_dsl.library.form import Form, Inverse, leaves
from crate_dsl.mathematics import plain
from crate_dsl.mathematics.derivation import APPROXIMATION, Assignment, DerivedStep, Prox
from crate_dsl.mathematics.glossary import MEANINGS
from crate_dsl.mathematics.quantities import Quantity
from crate_dsl.mathematics.statement import renamed, substituted
from crate_dsl.operators.adjoint import collected
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.program import StepProgram
from crate_dsl.pytorch.lines import escaped, wrapped


def stated_energy(step: DerivedStep) -> list[str]:
    """The energy as the spec states it, without its comments."""
    energy = step.step.energy
    if step.step.verb == "project":  # the spec names the constraint alone
        return []
    variables, given = (", ".join(f"{a.name}: {a.shape}" for a in side) for side in (energy.variables, energy.given))
    head = f"{energy.name}({variables} | {given})" if given else f"{energy.name}({variables})"
    return wrapped(escaped(f"{head} = {written(energy.body.span)}"))


def what_it_does(step: DerivedStep) -> str:
    """The first sentence of a step's docstring."""
    name, tokens = step.step.energy.name, step.step.tokens
    if step.step.verb == "project":
        return f"Every token to the nearest point of the {name}."
    if step.step.verb == "prox":
        return f"The proximal map of {name}, applied to the tokens {tokens}."
    if step.step.verb == "solve":
        return f"The minimiser {step.step.unknown} of {name}, from the tokens {tokens}, at once."
    if step.step.unknown is None:
        way = "up" if step.step.ascends else "down"
        return f"One step {way} the gradient of {name}, of the tokens {tokens}."
    if step.step.verb == "denoise":
        return f"Synthesis: {step.step.unknown} from the code {tokens}, where the gradient of {name} vanishes."
    count = step.step.iterations
    kind = "accelerated proximal" if step.step.accelerate else "proximal"
    return f"Sparse coding: {count} {kind} step{'s' if count > 1 else ''} on {name}, in {step.step.unknown}."


# ---- formulas --------------------------------------------------------------------------------------------------


def formula(step: StepProgram) -> list[str]:
    """The derived assignments, columns being tokens, and what was approximated on the way."""
    derived = step.derived
    lines = []
    if derived.read != derived.raw:
        lines.append(f"{normed_letter(derived)} = norm({derived.raw.name}); tokens are columns here and rows below")
    for quantity in (quantity for quantity in derived.quantities if quantity.stated and not quantity.is_given):
        held = "" if quantity.is_number else ", held constant by the derivation"
        lines += wrapped(_quantity(quantity, derived) + held)
    for assignment in derived.assignments:
        lines += wrapped(_assignment(assignment, derived))
    held = [p for p in derived.parameters if p.held != "learned"]
    lines += [line for p in held for line in wrapped(f"{p.name}[k]: {MEANINGS[p.held].format(p)}")]
    proxes = {assignment.prox: None for assignment in derived.assignments if assignment.prox}
    for prox in proxes:
        lines += wrapped(f"prox(v) = {prox_text(prox)}")
    lines += [line for note in (*_approximations(derived), *_fast(step)) for line in wrapped(f"# {note}", "# ")]
    return [line if line.startswith("#") else f"# {line}" for line in lines]


def _quantity(quantity: Quantity, step: DerivedStep) -> str:
    name = quantity.symbol().name if quantity.is_scalar else quantity.leaf
    normed = step.read != step.raw
    tree = renamed(quantity.tree, step.read.name, normed_letter(step)) if normed else quantity.tree
    return f"{name} = {' '.join(plain.tree(tree))}"


def normed_letter(step: DerivedStep) -> str:
    """A short name of the tokens as read, V where that is free."""
    taken = {leaf.name for assignment in step.assignments for leaf in leaves(assignment.value)}
    return next(letter for letter in ("V", "Y", "normed", step.read.name) if letter not in taken)


def _assignment(assignment: Assignment, step: DerivedStep) -> str:
    value = assignment.value
    if step.read != step.raw:
        value = substituted(value, step.read, replace(step.read, name=normed_letter(step)))
    text = " ".join(plain.form(value))
    return f"{assignment.target.name} = prox({text})" if assignment.prox else f"{assignment.target.name} = {text}"


def prox_text(prox: Prox) -> str:
    """The pieces in words."""
    parts = []
    for piece in prox.pieces:
        value = plain.scalar(piece.slope * sympy.Symbol("v") + piece.intercept)
        parts.append(value if piece.upper == sympy.oo else f"{value} up to {plain.scalar(piece.upper)}")
    return ", then ".join(parts)


def _approximations(step: DerivedStep) -> Iterator[str]:
    for line in step.record:
        if line.kind == APPROXIMATION:
            yield f"{line.rule}: {line.why}"


# ---- what the passes gained ------------------------------------------------------------------------------------


def _fast(step: StepProgram) -> Iterator[str]:
    """Why the code below is not the formula word by word."""
    graph = step.code or step.forward
    if step.derived.step.causal:
        yield f"causal: column t is that of the step applied to tokens 1..t, {step.derived.raw.cols} meaning t"
    if graph.operators("prefix_solve"):
        yield "one p x p inverse per chunk of tokens, and a Cholesky factor of which every block belongs to a prefix"
    if graph.operators("attention"):
        yield "the softmax and the products around it are one fused attention"
    if _has_token_inverse(step.derived) and _solves_features(graph):
        yield "W (I + c W'W)^-1 = (I + c W W')^-1 W: the solve is as wide as the features, not the tokens"
    if any(collected(graph)):
        yield "the weights are collected in M, made once for all tokens: one product per token is left"


def _has_token_inverse(step: DerivedStep) -> bool:
    return any(_inverts_tokens(a.value, step.raw.cols) for a in step.assignments)


def _inverts_tokens(form: Form, tokens: str) -> bool:
    return any(isinstance(f, Inverse) and f.of.rows == tokens for word in form.words for f in word.factors)


def _solves_features(graph: Graph) -> bool:
    if graph.operators("gram_solve"):
        return True
    return any(graph[graph[n].inputs[0]].type.rows != graph.tokens for n in graph.operators("solve"))
