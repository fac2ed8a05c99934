"""Steps that are constructed from data: the methods that compute what a step keeps of them."""

from __future__ import annotations

from collections.abc import Mapping

from crate_dsl.library.approximations import Fitted
from crate_dsl.mathematics import plain
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.program import StepProgram
from crate_dsl.operators.uses import inputs_of
from crate_dsl.pytorch.body import Body, Class
from crate_dsl.pytorch.comments import wrapped
from crate_dsl.pytorch.names import Names
from crate_dsl.pytorch.parameters import attribute

INDENT = "    "


def method_of(fitted: Fitted) -> str:
    """The method that computes one matrix of the step."""
    return f"fitted_{attribute(fitted.name)}"


def fitting_methods(step: StepProgram, owner: Class, names: Names, arguments: Mapping[str, str]) -> list[str]:
    """One method per fitted matrix, and `fit`, which computes and keeps them all; `arguments` are inputs by leaf."""
    lines: list[str] = []
    for fitted, graph in zip(step.derived.fitted, step.fits, strict=True):
        lines += [*_method(fitted, graph, owner, Names(names), arguments), ""]
    return [*lines, *_fit(step, arguments)] if lines else []


def _method(fitted: Fitted, graph: Graph, owner: Class, names: Names, arguments: Mapping[str, str]) -> list[str]:
    needed = {leaf: text for leaf, text in arguments.items() if leaf in inputs_of(graph)}
    signature = ", ".join(f"{text}: Tensor" for text in needed.values())
    axis = f", {fitted.shape.family}" if fitted.shape.family else ""
    shape = f"(batch{axis}, {fitted.shape.rows}, {fitted.shape.cols})"
    member = f"{fitted.name}[{fitted.index}]" if fitted.index else fitted.name
    formula = [f"# {line}" for line in wrapped(f"{member} = {' '.join(plain.form(fitted.value))}")]
    body = Body(graph, owner, names, needed, counted={graph.tokens: f"{next(iter(needed.values()))}.shape[1]"})
    head = f"def {method_of(fitted)}(self, {signature}) -> Tensor:  # {shape}"
    return [*formula, head, *(INDENT + line for line in body.lines())]


def _fit(step: StepProgram, arguments: Mapping[str, str]) -> list[str]:
    signature = ", ".join(f"{text}: Tensor" for text in arguments.values())
    first = next(iter(arguments.values()))
    lines = [
        "@torch.no_grad()",
        f"def fit(self, {signature}) -> None:",
        f'{INDENT}"""Compute what the step keeps of one set of data, {first}: (1, N, d) as the step reads it."""',
        f"{INDENT}if len({first}) != 1:",
        f'{INDENT * 2}raise ValueError(f"a step is fitted to one set of data, not to {{len({first})}}")',
    ]
    for fitted, graph in zip(step.derived.fitted, step.fits, strict=True):
        own = ", ".join(text for leaf, text in arguments.items() if leaf in inputs_of(graph))
        stored = ".mT.flatten(0, 1)" if fitted.shape.family else ""
        lines.append(f"{INDENT}self.{attribute(fitted.name)}.copy_(self.{method_of(fitted)}({own})[0]{stored})")
    return lines
