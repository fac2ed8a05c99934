"""`--check`: the certificate of a derivation and of the graphs made from it, as one report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import crate_dsl.library.arrays as np
from crate_dsl.compiler import Compilation
from crate_dsl.mathematics.certify import Finding, certify, singular
from crate_dsl.mathematics.derivation import DerivedStep
from crate_dsl.mathematics.evaluate import Point, execute, form_value, tree_value, with_quantities
from crate_dsl.mathematics.reference import reference_point
from crate_dsl.operators.freeze import frozen_error, live_graphs
from crate_dsl.operators.graph import FIRST, Graph
from crate_dsl.operators.interpret import Inputs, interpret
from crate_dsl.operators.program import PenaltyProgram, StepProgram
from crate_dsl.operators.uses import inputs_of
from crate_dsl.operators.verify import TOLERANCE, distinct_sizes, largest, pass_error, random_inputs, relative_error


def certificate(compilation: Compilation) -> tuple[str, bool]:
    """The report and whether every exact claim holds (numpy, float64, no torch)."""
    findings = (*certify(compilation.derivation), *_graph_findings(compilation), *_penalty_findings(compilation))
    failed = sum(finding.passed is False for finding in findings)
    exact = sum(finding.passed is not None for finding in findings)
    heading = (
        f"{compilation.model.name}: {exact} exact claims, {failed} failed\n"
        "numbers are relative errors: of what is verified, and of a step with this approximation and those before it,\n"
        "beside the exact step; measured at the reference point (tokens from a mixture of the subspaces, noise 0.3,\n"
        "norm sqrt(d); orthonormal subspaces)\n"
    )
    return "\n".join([heading, *map(str, findings)]) + "\n", not failed


def _graph_findings(compilation: Compilation) -> Iterator[Finding]:
    """Lowered graphs against the forms that they came from, optimised graphs against lowered ones."""
    derived = (step for block in compilation.derivation.blocks for step in block.steps)
    for step, before, after in zip(derived, compilation.program.steps, compilation.optimised.steps, strict=True):
        try:
            yield from _findings_of(compilation, step, before, after)
        except np.linalg.LinAlgError:
            raise singular(step) from None


def _findings_of(
    compilation: Compilation, step: DerivedStep, before: StepProgram, after: StepProgram
) -> Iterator[Finding]:
    place = before.forward.name
    yield _finding(place, "lowered graph against the derived forms", _lowering_error(compilation, step, before))
    if compilation.freeze:
        yield _finding(place, "folded and frozen graphs against the lowered ones", frozen_error(before, after))
    pairs = [(before.energy, after.energy), (before.start, after.start), *zip(before.fits, after.fits, strict=True)]
    pairs += [] if compilation.freeze else zip(live_graphs(before), live_graphs(after), strict=True)
    yield _finding(place, "optimised graphs against the lowered ones", largest(pass_error(*pair) for pair in pairs))
    if after.pruned:
        error = first_error(after.pruned, after.forward)
        yield _finding(place, "what the head reads against the whole result", error)
    if after.single and not after.pruned:
        error = first_error(after.single, after.forward)
        yield _finding(place, "one token by itself against the same among all", error)


def _penalty_findings(compilation: Compilation) -> Iterator[Finding]:
    """The penalties of the loss: the graph that is written against the energies as stated."""
    for before, after in zip(compilation.program.penalties, compilation.optimised.penalties, strict=True):
        place = before.derived.place
        yield _finding(place, "lowered graph against the stated energies", _penalty_error(before))
        yield _finding(place, "optimised graph against the lowered one", pass_error(before.graph, after.graph))


def _penalty_error(penalty: PenaltyProgram) -> float:
    """At random points, image by image; the stated energies are evaluated without passing through graphs."""
    graph = replace(penalty.graph, sizes=distinct_sizes(penalty.graph))
    inputs = random_inputs(graph)
    found = interpret(graph, inputs)["penalty"]
    name, point = penalty.derived.tokens.name, Point(graph.sizes, inputs.scalars, inputs.matrices)
    points = [point.with_matrix(name, image) for image in inputs.matrices[name]] if name in inputs.matrices else [point]
    wanted = np.array([tree_value(penalty.derived.tree, each) for each in points])
    return relative_error(np.squeeze(found), np.squeeze(wanted))


def _finding(place: str, claim: str, error: float) -> Finding:
    return Finding(place, claim, error, bool(error < TOLERANCE))


def first_error(pruned: Graph, whole: Graph) -> float:
    """Of the graph for the first token alone, at random points, against that token of the whole result."""
    sizes = {**distinct_sizes(whole), FIRST: 1}
    pruned, whole = replace(pruned, sizes=sizes), replace(whole, sizes=sizes)
    inputs = random_inputs(whole)
    alone = {pruned[n].attributes[0] for n in pruned.operators("input") if pruned[n].type.cols == FIRST}
    first = {name: value[..., :1] if name in alone else value for name, value in inputs.matrices.items()}
    found, wanted = interpret(pruned, replace(inputs, matrices=first)), interpret(whole, inputs)
    return max(relative_error(found[name], value[..., :1]) for name, value in wanted.items())


def _lowering_error(compilation: Compilation, derived: DerivedStep, step: StepProgram) -> float:
    """At the reference point, at the sizes of the network."""
    point = reference_point(compilation.model, step.block, derived)
    if derived.step.causal:  # what is lowered is a whole that every prefix is read by
        step = step.mapped(lambda graph: replace(graph, causal=False, sizes=point.sizes))
        point = with_quantities(derived.quantities, point)
    after = execute(derived.assignments, point)
    batched = {derived.raw.name, derived.read.name, *(q.name for q in derived.quantities if q.is_given)}
    matrices = {name: value[None] if name in batched else value for name, value in point.matrices.items()}
    if step.code:
        found = interpret(step.code, Inputs(matrices, point.scalars))["code"][0, 0]
        matrices |= {name: found[None] for name in inputs_of(step.forward) if name not in matrices}
        code_error = relative_error(found, form_value(derived.objective.after, after))
    else:
        code_error = 0.0
    result = interpret(step.forward, Inputs(matrices, point.scalars))["result"]
    wanted = after.matrices[derived.result.name]
    return max(code_error, relative_error(np.squeeze(result, (0, 1)), wanted))
