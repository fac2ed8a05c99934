"""Steps that are constructed from data: the methods that compute what a step keeps of them, and what it estimates."""

from __future__ import annotations

from collections.abc import Mapping

from crate_dsl.library.form import Form
from crate_dsl.library.rules import Fitted
from crate_dsl.library.tree import Tree
from crate_dsl.mathematics import plain
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.program import BlockProgram, Program, StepProgram
from crate_dsl.operators.uses import inputs_of
from crate_dsl.pytorch.body import Body, Class
from crate_dsl.pytorch.lines import INDENT, indented, wrapped
from crate_dsl.pytorch.names import Names
from crate_dsl.pytorch.parameters import attribute


def fitted_of(fitted: Fitted) -> str:
    """The method that computes one matrix of the step."""
    return f"fitted_{attribute(fitted.name)}"


def estimate_of(name: str) -> str:
    """The method that estimates a given quantity."""
    return f"estimated_{attribute(name)}"


def fitting_methods(
    step: StepProgram, owner: Class, names: Names, tokens: Mapping[str, str], handed: Mapping[str, str]
) -> list[str]:
    """One method per estimate and per fitted matrix, and `fit`, which computes and keeps these.

    `tokens` and `handed` are the names of arguments, by the inputs of graphs: the tokens as read and given quantities.
    """
    lines: list[str] = []
    for quantity, graph in zip((q for q in step.derived.quantities if q.is_given), step.estimates, strict=True):
        member = f"{quantity.name}[{quantity.index}]" if quantity.index else quantity.name
        head = f"def {estimate_of(quantity.name)}(self, {_signature(tokens)}) -> Tensor:"
        lines += [*_formula(member, quantity.estimate), *_method(head, graph, owner, Names(names), tokens), ""]
    if not step.fits:
        return lines[:-1]
    arguments = {**tokens, **handed}
    for fitted, graph in zip(step.derived.fitted, step.fits, strict=True):
        needed = _needed(graph, arguments)
        member = f"{fitted.name}[{fitted.index}]" if fitted.index else fitted.name
        head = f"def {fitted_of(fitted)}(self, {_signature(needed)}) -> Tensor:"
        lines += [*_formula(member, fitted.value), *_method(head, graph, owner, Names(names), needed), ""]
    return [*lines, *_fit(step, arguments, names)]


def _needed(graph: Graph, arguments: Mapping[str, str]) -> dict[str, str]:
    return {leaf: text for leaf, text in arguments.items() if leaf in inputs_of(graph)}


def _signature(arguments: Mapping[str, str]) -> str:
    return ", ".join(f"{text}: Tensor" for text in arguments.values())


def _formula(member: str, value: Form | Tree) -> list[str]:
    text = " ".join(plain.form(value) if isinstance(value, Form) else plain.tree(value))
    return [f"# {line}" for line in wrapped(f"{member} = {text}")]


def _method(head: str, graph: Graph, owner: Class, names: Names, arguments: Mapping[str, str]) -> list[str]:
    """Numbers of tokens are those of the data, not those that the spec states."""
    first, *_ = arguments.values()
    tokens = f"{first}.shape[{1 if graph.tokens not in _rows(graph, arguments) else -2}]"
    body = Body(graph, owner, names, arguments, counted={graph.tokens: tokens})
    return [head, *indented(body.lines())]


def _rows(graph: Graph, arguments: Mapping[str, str]) -> str:
    """The rows of the first argument as the mathematics has them."""
    name = next(iter(arguments))
    return next(graph[n].type.rows for n in graph.operators("input") if graph[n].attributes[0] == name)


def _fit(step: StepProgram, arguments: Mapping[str, str], names: Names) -> list[str]:
    read, *handed = arguments.values()
    z = Names(names).new(step.derived.raw.name.lower()) if step.derived.step.norm else read
    shape = f"(1, {step.derived.raw.cols}, {step.derived.raw.rows})"
    lines = [
        "@torch.no_grad()",
        f"def fit(self, {', '.join(f'{name}: Tensor' for name in (z, *handed))}) -> None:",
        f'{INDENT}"""Compute what the step keeps of one set of data, {shape}."""',
        f"{INDENT}if len({z}) != 1:",
        f'{INDENT * 2}raise ValueError(f"a step is fitted to one set of data, not to {{len({z})}}")',
        *([f"{INDENT}{read} = self.norm({z})"] if z != read else []),
    ]
    for fitted, graph in zip(step.derived.fitted, step.fits, strict=True):
        own = ", ".join(_needed(graph, arguments).values())
        matrices = (fitted.shape.rows, fitted.shape.cols) != ("1", "1")
        stored = ".mT.flatten(0, 1)" if fitted.shape.family and matrices else ""
        lines.append(f"{INDENT}self.{attribute(fitted.name)}.copy_(self.{fitted_of(fitted)}({own})[0]{stored})")
    return [*lines, f"{INDENT}self.fold()"] if step.fold and step.fold.outputs else lines


# ---- layers and the network --------------------------------------------------------------------------------------


def _handed(block: BlockProgram) -> list[str]:
    """The given quantities of a layer's fitted steps, as arguments."""
    quantities = (q for step in block.steps if step.fits for q in step.derived.quantities if q.is_given)
    return list(dict.fromkeys(q.name.lower() for q in quantities))


def layer_fit(block: BlockProgram) -> list[str]:
    """`fit` of a layer: one step after the other, each on what the steps before it make of the data."""
    if not any(step.fits for step in block.steps):
        return []
    handed = _handed(block)
    lines = []
    for step in block.steps:
        label = step.derived.step.label
        if step.fits:
            own = [q.name.lower() for q in step.derived.quantities if q.is_given]
            lines.append(f"self.{label}.fit({', '.join(['z', *own])})")
        lines.append(f"z = self.{label}(z)")
    head = f"def fit(self, {', '.join(f'{name}: Tensor' for name in ('z', *handed))}) -> Tensor:"
    about = '"""Construct the layer from data; returns what it makes of them."""'
    return ["", "@torch.no_grad()", head, *indented([about, *lines, "return z"])]


def network_fit(program: Program, arguments: str) -> list[str]:
    """`fit` of the network, layer by layer; none where no step is fitted."""
    fitted = [block for block in program.blocks if any(step.fits for step in block.steps)]
    if not fitted:
        return []
    handed = list(dict.fromkeys(name for block in fitted for name in _handed(block)))
    given = arguments.partition(":")[0]
    lines = [f"z = self.tokens({given})"]
    for block in program.blocks:
        own = ", ".join(["z", *_handed(block)])
        call = f"layer.fit({own})" if block in fitted else "layer(z)"
        lines += [f"for layer in self.{block.block.role}:", f"{INDENT}z = {call}"]
    head = f"def fit(self, {given}: Tensor, {', '.join(f'{name}: Tensor' for name in handed)}) -> Tensor:"
    about = '"""Construct all layers from data, without back-propagation; returns the tokens after the last."""'
    return ["@torch.no_grad()", head, *indented([about, *lines, "return z"])]
