"""What a step's graphs read: learned matrices and scalars, and inputs."""

from __future__ import annotations

from collections.abc import Iterator

from crate_dsl.language.model import LearnedScalar, Model, Parameter
from crate_dsl.library.scalars import base_name
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.norms import normalised
from crate_dsl.operators.program import BlockProgram, StepProgram
from crate_dsl.operators.rewrite import of_one_token
from crate_dsl.operators.verify import coefficient_symbols


def step_parameters(step: StepProgram) -> list[tuple[Parameter, bool]]:
    """The learned matrices that a step's graphs read, and whether its forward pass is among them."""
    known = {p.name: p for p in (*step.block.parameters, *step.derived.parameters)}
    live = (*forward_graphs(step), *((step.fold,) if step.fold else ()))
    forward = {name for graph in live for name in parameters_of(graph)}
    read = forward | {name for graph in step.graphs for name in parameters_of(graph)}
    return [(p, name in forward) for name, p in known.items() if name in read]


def step_scalars(step: StepProgram, model: Model) -> list[LearnedScalar]:
    """The learned scalars that a step's graphs read."""
    names = {base_name(s) for graph in step.graphs for s in coefficient_symbols(graph)}
    return [scalar for scalar in (*step.block.scalars, *model.scalars) if scalar.name in names]


def forward_graphs(step: StepProgram) -> tuple[Graph, ...]:
    """What a forward pass executes of a step: estimates stand for what is not given."""
    return (step.forward, *((step.code,) if step.code else ()), *step.estimates)


def runs(block: BlockProgram) -> Iterator[tuple[StepProgram, list[tuple[Graph, int]]]]:
    """Every step with the graphs of a pass through all layers, and in how many layers each of them runs.

    From a pruned step on, the last layer has one token.
    """
    layers, alone = block.block.repeat, False
    for step in block.steps:
        graphs = forward_graphs(step)
        last = (step.pruned,) if step.pruned else map(of_one_token, graphs) if alone else ()
        alone = alone or step.pruned is not None
        yield step, [*((graph, layers - alone) for graph in graphs), *((graph, 1) for graph in last)]


def opens_norm(step: StepProgram) -> bool:
    """Whether a frozen step has the affine part of its norm folded, so that graphs read tokens without it."""
    return any(normalised(step.derived) in inputs_of(graph) for graph in step.graphs)


def parameters_of(graph: Graph) -> list[str]:
    return [graph[n].attributes[0] for n in graph.operators("parameter")]


def inputs_of(graph: Graph) -> list[str]:
    return [graph[n].attributes[0] for n in graph.operators("input")]
