"""What a frozen step computes once of its weights: the buffers that keep it, and the method that fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from crate_dsl.language.model import ONE
from crate_dsl.library.scalars import base_name
from crate_dsl.operators.formula import described_whole
from crate_dsl.operators.graph import Type
from crate_dsl.operators.norms import BIAS, WEIGHT
from crate_dsl.operators.program import StepProgram
from crate_dsl.operators.uses import opens_norm, parameters_of
from crate_dsl.operators.verify import coefficient_symbols
from crate_dsl.pytorch.body import Class
from crate_dsl.pytorch.comments import normed_letter
from crate_dsl.pytorch.fold_body import FoldBody
from crate_dsl.pytorch.lines import indented, wrapped
from crate_dsl.pytorch.names import Names, mangle
from crate_dsl.pytorch.parameters import MODULE

METHODS = {"advance", "fit", "norm"}  # what a step may have beside what every module has


class Folding:
    """The folded values of a step; false where there are none. `owner` is the step's class with them."""

    def __init__(self, step: StepProgram, owner: Class) -> None:
        self._step, self._graph = step, step.fold
        taken = {*owner.attributes.values(), *MODULE, *METHODS}
        self._scalars = {s: _free(s, taken) for s in self._bounded(owner)}
        self._folded = {name: _free(name.partition(".")[2], taken) for name, _ in self._outputs}
        kept = {s: replace(owner.learned[s], lower=None) for s in self._scalars}  # as they are, no longer as logarithms
        names = {**owner.attributes, **self._scalars, **self._folded, WEIGHT: WEIGHT, BIAS: BIAS}
        self._plain, self.owner = owner, replace(owner, attributes=names, learned={**owner.learned, **kept})

    def __bool__(self) -> bool:
        return bool(self._scalars or self._folded)

    @property
    def _outputs(self) -> tuple[tuple[str, int], ...]:
        return self._graph.outputs if self._graph else ()

    def _bounded(self, owner: Class) -> Iterator[str]:
        """Learned scalars that are stored as logarithms, and that more than folded values are made of."""
        graphs = (graph for graph in self._step.graphs if graph is not self._graph) if self._graph else ()
        read = {base_name(symbol) for graph in graphs for symbol in coefficient_symbols(graph)}
        return (name for name, scalar in owner.learned.items() if scalar.lower is not None and name in read)

    # ---- in the class ---------------------------------------------------------------------------------------------

    def buffers(self, size: Callable[[str], str]) -> list[str]:
        """Their declarations, not in the state dict."""
        shapes = {name: self._plain.learned[s].family for s, name in self._scalars.items()}
        lines = [_buffer(name, size(family) if family else "()", "") for name, family in shapes.items()]
        for name, number in self._outputs:
            kind = self._graph[number].type
            stacked = kind.family and not kind.is_scalar
            comment = f"  # {replace(kind, diagonal=False)}" + (", stacked" if stacked else "")
            lines.append(_buffer(self._folded[name], _stored(kind, size), comment))
        return lines

    def method(self, names: Names) -> list[str]:
        """`fold`, with the formulas of what it computes."""
        if not self:
            return []
        lines = []
        for name, attribute in self._scalars.items():
            bound = self._plain.learned[name].lower
            shift = f"{float(bound)!r} + " if bound else ""
            lines.append(f"self.{attribute} = {shift}self.{self._plain.attributes[name]}.exp()")
        if self._outputs:
            body = FoldBody(self._graph, self.owner, names, {"": self._reference()})
            lines += body.stored(self._folded)
        about = '"""Compute what is made of weights alone; to be called when they have changed."""'
        head = ["@torch.no_grad()", "def fold(self) -> None:"]
        return [*self._formulas(), *head, *indented([about, *lines])]

    def _reference(self) -> str:
        """A tensor with the type and device that new ones should have."""
        held = (*parameters_of(self._graph), *self._plain.attributes, *self._folded)
        return next(f"self.{self.owner.attributes[name]}" for name in held if name in self.owner.attributes)

    def _formulas(self) -> list[str]:
        lines, derived = [], self._step.derived
        if opens_norm(self._step):
            tokens = f"{normed_letter(derived)} = diag({WEIGHT}) * X + {BIAS} * ones({derived.raw.cols})'"
            lines += wrapped(f"{tokens}, X the tokens normalised and nothing more")
        for name, number in self._outputs:
            operator = self._graph[number]
            turned = operator.kind == "transpose"
            value = described_whole(self._graph, operator.inputs[0] if turned else number)
            family = f"[{operator.type.family}]" if operator.type.family else ""
            text = f"{self._folded[name]}{family}{chr(39) * turned} = {value}"
            lines += wrapped(text)
        return [f"# {line}" for line in lines]


def _free(wanted: str, taken: set[str]) -> str:
    """A name that nothing of the step has, numbered where it has to be."""
    base, number = wanted.rstrip("0123456789"), 1
    name = mangle(wanted)
    while name in taken:
        number += 1
        name = mangle(f"{base}{number}")
    taken.add(name)
    return name


def _buffer(name: str, shape: str, comment: str) -> str:
    return f'self.register_buffer("{name}", torch.empty({shape}), persistent=False){comment}'


def _stored(kind: Type, size: Callable[[str], str]) -> str:
    """The shape in which a value is kept: like a learned one of its type."""
    if kind.is_scalar:
        return size(kind.family) if kind.family else "()"
    if kind.cols == ONE:
        return f"{size(kind.family)}, {size(kind.rows)}" if kind.family else size(kind.rows)
    if kind.family:
        return f"{size(kind.family)} * {size(kind.cols)}, {size(kind.rows)}"
    return f"{size(kind.rows)}, {size(kind.cols)}"


def network_fold(labels: Mapping[str, list[str]]) -> list[str]:
    """`fold` of the network; `labels` are the steps with something to fold, by stage."""
    lines = []
    for stage, steps in labels.items():
        lines += [f"for layer in self.{stage}:", *indented(f"layer.{label}.fold()" for label in steps)] if steps else []
    about = '"""Compute what is made of weights alone; `__init__` and `load_state_dict` do, other changes have to."""'
    return ["def fold(self) -> None:", *indented([about, *lines])]
