"""Lowered graphs mean what the derivation means: an independent evaluation of forms and trees, image by image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from crate_dsl.mathematics.evaluate import Point, execute, held_point, step_result, tree_value, with_quantities
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.interpret import Inputs, interpret
from crate_dsl.operators.lower import held_name
from crate_dsl.operators.program import StepProgram
from crate_dsl.operators.verify import BATCH, random_inputs
from tests.steps import CASES, program_of

STEPS = [(case, step) for case, steps in CASES.items() for step in range(len(list(program_of(steps).steps)))]


def point_of(graph: Graph, inputs: Inputs, image: int) -> Point:
    batched = {graph[n].attributes[0] for n in graph.operators("input")}
    matrices = {name: value[image] if name in batched else value for name, value in inputs.matrices.items()}
    return Point(graph.sizes, inputs.scalars, matrices)


def with_held(step: StepProgram, point: Point, whole: bool = False) -> Point:
    """The point with the step's quantities, which are computed from the tokens that the graph has for them."""
    name, read = held_name(step.derived), step.derived.read.name
    if not step.derived.quantities:
        return point
    at = point.with_matrix(read, point.matrices.get(name, point.matrices.get(read)))
    held = with_quantities(step.derived.quantities, at) if whole else held_point(step.derived, at)
    return replace(held, matrices={**held.matrices, **point.matrices})


@pytest.mark.parametrize(("case", "place"), STEPS)
def test_forward(case: str, place: int) -> None:
    program = program_of(CASES[case])
    step: StepProgram = list(program.steps)[place]
    graph = step.code or step.forward
    inputs = random_inputs(graph)
    (found,) = interpret(graph, inputs).values()
    wanted = step.derived.objective.after.words[0].factors[0].name if step.code else step.derived.result.name
    for image in range(BATCH):
        point = with_held(step, point_of(graph, inputs, image))
        value = execute(_needed(step), point).matrices[wanted] if step.code else step_result(step.derived, point)
        np.testing.assert_allclose(found[image, 0], value, rtol=1e-10, atol=1e-10)


def _needed(step: StepProgram) -> tuple:
    """The assignments up to the code, where a code is read out afterwards."""
    names = [a.target.name for a in step.derived.assignments]
    if step.code is None:
        return step.derived.assignments
    last = names.index(step.derived.objective.after.words[0].factors[0].name)
    return step.derived.assignments[: last + 1]


@pytest.mark.parametrize(("case", "place"), STEPS)
def test_energy(case: str, place: int) -> None:
    step = list(program_of(CASES[case]).steps)[place]
    inputs = random_inputs(step.energy)
    found = np.broadcast_to(interpret(step.energy, inputs)["energy"], (BATCH, 1, 1, 1))  # constraints alone: one zero
    for image in range(BATCH):
        value = tree_value(
            step.derived.objective.energy, with_held(step, point_of(step.energy, inputs, image), whole=True)
        )
        np.testing.assert_allclose(found[image], value, rtol=1e-10)
