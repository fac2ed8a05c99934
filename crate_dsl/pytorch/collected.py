"""Matrices that are collected from weights, written as functions whose backward pass is derived, not traced."""

from __future__ import annotations

from dataclasses import dataclass

from crate_dsl.operators.adjoint import GRADIENT, adjoint, collected, own_graph
from crate_dsl.operators.cost import TRAINING
from crate_dsl.operators.formula import described_whole
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.uses import parameters_of
from crate_dsl.pytorch.body import Body, Class
from crate_dsl.pytorch.lines import docstring, indented, wrapped
from crate_dsl.pytorch.names import Names


@dataclass(frozen=True)
class Collected:
    """The function of one such matrix: the value of the graph that it makes, its class, who keeps it, and the call."""

    number: int
    text: tuple[str, ...]
    keeper: str
    call: str


def collected_matrices(graph: Graph, owner: Class, names: Names, prefix: str) -> list[Collected]:
    """One for every matrix for which the derived backward pass costs less."""
    found = []
    for number in collected(graph):
        own = own_graph(graph, number)
        backward = adjoint(own, owner.learned, TRAINING)
        if backward:
            (parameter,) = parameters_of(own)
            name = names.new(f"{prefix}Matrix")
            text = tuple(_function(name, parameter, own, backward, owner, names))
            holder = f"self._matrix{len(found) + 1 if found else ''}"
            keeper = f"{holder} = MadeOf({name})"
            found.append(Collected(number, text, keeper, f"{holder}(self.{owner.attributes[parameter]})"))
            owner.helpers.add("MadeOf")
    return found


def _function(name: str, parameter: str, own: Graph, backward: Graph, owner: Class, names: Names) -> list[str]:
    local = Names(names)
    leaf, gradient = local.new(parameter), local.new("gradient")
    inside = Class(owner.block, owner.constants, {}, {}, owner.helpers, {parameter: leaf, GRADIENT: gradient})
    bodies = [Body(graph, inside, Names(local), {parameter: leaf}).lines() for graph in (own, backward)]
    what = f"{described_whole(own, own.output)}, with the gradient derived and factored: fewer products than traced."
    forward, derived = bodies
    lines = [
        *docstring(wrapped(what, "")),
        "",
        "generate_vmap_rule = True",
        "",
        "@staticmethod",
        f"def forward({leaf}: Tensor) -> Tensor:",
        *indented(forward),
        "",
        "@staticmethod",
        "def setup_context(ctx, inputs: tuple, _: Tensor) -> None:",
        *indented(["ctx.save_for_backward(*inputs)"]),
        "",
        "@staticmethod",
        f"def backward(ctx, {gradient}: Tensor) -> Tensor:",
        *indented([f"({leaf},) = ctx.saved_tensors", f"{gradient} = {gradient}.to({leaf}.dtype)", *derived]),
    ]
    return [f"class {name}(torch.autograd.Function):", *indented(lines)]
