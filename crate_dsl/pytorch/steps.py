"""One `nn.Module` per step: its parameters, its forward pass, and the energy that it states."""

from __future__ import annotations

from collections.abc import Container, Mapping

from crate_dsl.language.model import Block, Parameter, Word
from crate_dsl.operators.graph import FIRST, Graph
from crate_dsl.operators.norms import normalised
from crate_dsl.operators.program import StepProgram
from crate_dsl.operators.uses import inputs_of, opens_norm, step_parameters, step_scalars
from crate_dsl.pytorch.body import Body, Class
from crate_dsl.pytorch.collected import Collected, collected_matrices
from crate_dsl.pytorch.comments import formula, stated_energy, what_it_does
from crate_dsl.pytorch.file import File
from crate_dsl.pytorch.fitting import estimate_of, fitting_methods
from crate_dsl.pytorch.folding import Folding
from crate_dsl.pytorch.lines import docstring, indented
from crate_dsl.pytorch.names import Names
from crate_dsl.pytorch.parameters import Start, attribute, scalar_attribute, scalar_line
from crate_dsl.pytorch.spelling import is_linear
from crate_dsl.pytorch.streaming import advancing

FIRST_OF_ALL = "The first token of the result, for which all tokens are read."


def norm_line(name: str, word: Word, width: str) -> str:
    """`self.<name> = nn.LayerNorm(width)`, with its epsilon where that is not torch's own."""
    return f"self.{name} = nn.LayerNorm({width}{_epsilon(word)})"


def _epsilon(word: Word) -> str:
    return f", eps={float(word.arguments[0])!r}" if word.arguments else ""


def _attribute(parameter: Parameter) -> str:
    """What stands for a parameter: its own attribute, or that of its origin, which is stored as it would be, turned."""
    return f"{attribute(parameter.origin)}.T" if parameter.held == "transposed" else attribute(parameter.name)


class StepWriter:
    """Writes the class of one step; `alone`, if tokens may come one at a time, or in parts of a text."""

    def __init__(self, step: StepProgram, file: File, alone: bool) -> None:
        self._step, self._file, self._alone = step, file, alone
        self._block: Block = step.block
        scalars = step_scalars(step, file.model)
        self._scalars = {scalar.name: scalar for scalar in scalars}
        attributes = {p.name: _attribute(p) for p, _ in step_parameters(step) if p.held != "identity"}
        attributes |= {scalar.name: scalar_attribute(scalar) for scalar in scalars}
        self._folding = Folding(
            step, Class(step.block, file.constants, attributes, self._scalars, file.helpers, gpu=file.gpu)
        )
        self._class = self._folding.owner
        self._collected: list[Collected] = []

    @property
    def folds(self) -> bool:
        """Whether the step is frozen and has something to compute once."""
        return bool(self._folding)

    @property
    def _normed(self) -> bool:
        return self._step.derived.step.norm is not None

    def classes(self, name: str) -> list[list[str]]:
        """The functions of matrices collected from weights, and the class of the step, which calls them."""
        self._collected = collected_matrices(self._step.forward, self._class, self._file.names, name)
        return [*(list(matrix.text) for matrix in self._collected), self._text(name)]

    def _text(self, name: str) -> list[str]:
        derived = self._step.derived
        energy = stated_energy(derived)
        about = [what_it_does(derived), *(["", *energy] if energy else [])]
        parts = [docstring(about), self._init(), self._folding.method(Names(self._file.names))]
        parts += [*([self._code()] if self._step.code else []), self._forward()]
        stream = advancing(self._step) if self._alone or derived.step.causal else None
        parts += [self._advance(stream)] if stream else []
        parts += [self._one("first", self._step.pruned)] if self._step.pruned else []
        parts += [self._one("single", self._step.single)] if self._step.single and self._alone else []
        parts += [self._energy(), self._energies(), self._fitting()]
        body = [line for part in parts if part for line in (*part, "")]
        return [f"class {name}(nn.Module):", *indented(body[:-1])]

    # ---- parameters ---------------------------------------------------------------------------------------------

    def _size(self, axis: str) -> str:
        return self._file.constants.size(axis, self._block)

    def _init(self) -> list[str]:
        derived, lines = self._step.derived, []
        if derived.step.norm:
            lines.append(norm_line("norm", derived.step.norm, self._size(derived.raw.rows)))
        start = Start(derived, self._size)
        for parameter, used in step_parameters(self._step):
            lines += start.lines(parameter, used and parameter.held == "learned") if parameter.stored else []
        for scalar in self._scalars.values():
            lines.append(scalar_line(scalar, self._size(scalar.family) if scalar.family else None))
        lines += [matrix.keeper for matrix in self._collected]
        lines += self._folding.buffers(self._size)
        return ["def __init__(self) -> None:", *indented(["super().__init__()", *lines])]

    # ---- forward ------------------------------------------------------------------------------------------------

    @property
    def _opened(self) -> bool:
        """Whether the affine part of the norm is folded, so that the forward pass only normalises."""
        return opens_norm(self._step)

    def _as_read(self, z: str) -> tuple[str, str, str]:
        """The tokens as the forward pass reads them: input of its graphs, wanted name, and code."""
        derived = self._step.derived
        if not self._opened:
            return (derived.read.name, "v", f"self.norm({z})") if self._normed else (derived.read.name, z, z)
        epsilon = _epsilon(derived.step.norm)
        if self._file.gpu:
            self._file.helpers.add("standardised")
            return normalised(derived), "x", f"standardised({z}{epsilon})"
        return normalised(derived), "x", f"F.layer_norm({z}, ({self._size(derived.raw.rows)},){epsilon})"

    def _local(self, *wanted: str) -> tuple[Names, list[str]]:
        names = Names(self._file.names)
        return names, [names.new(name) for name in wanted]

    def _shape(self, rows: str) -> str:
        return f"(batch, {self._step.derived.raw.cols}, {rows})"

    def _norms(self, graph: Graph, z: str) -> dict[str, tuple[str, str]]:
        """The normed tokens as raw ones and their norm, where one linear map alone reads them and makes them itself."""
        readers = [(n, user) for n in graph.operators("input") for user in graph.users(n)]
        mine = [(n, user) for n, user in readers if graph[n].attributes[0] == self._step.derived.read.name]
        lean = self._normed and not (self._step.code or self._step.fold) and len(mine) == 1
        if not lean or not is_linear(graph[mine[0][1]], mine[0][0], graph.__getitem__):
            return {}
        return {self._step.derived.read.name: (z, "self.norm")}

    def _read(self, z: str, names: Names, norms: Container[str] = ()) -> tuple[dict[str, str], list[str]]:
        """The tokens raw and as read by the names of leaves, and the statements that make the latter of the former."""
        derived = self._step.derived
        if not self._normed or derived.read.name in norms:
            return {derived.raw.name: z}, []
        leaf, wanted, normed = self._as_read(z)
        v = names.new(wanted)
        return {derived.raw.name: z, leaf: v}, [f"{v} = {normed}"]

    def _method(
        self,
        name: str,
        graph: Graph,
        names: Names,
        inputs: dict[str, str],
        first: list[str],
        norms: Mapping[str, tuple[str, str]] | None = None,
    ) -> list[str]:
        own = self._own(graph, inputs)
        first_input = next(iter(inputs.values()))
        counted = self._file.counted(graph.tokens, first_input, always=bool(self._step.fits))
        made = {matrix.number: matrix.call for matrix in self._collected} if graph is self._step.forward else {}
        body = Body(graph, self._class, names, own, counted=counted, norms=norms, made=made)
        return [name, *indented([*first, *body.lines()])]

    @staticmethod
    def _own(graph: Graph, inputs: dict[str, str]) -> dict[str, str]:
        """The inputs that a graph reads; all of them where it reads none, for their type and device."""
        return {leaf: text for leaf, text in inputs.items() if leaf in inputs_of(graph)} or inputs

    def _code(self) -> list[str]:
        """The unknown of the energy, from the tokens as read."""
        derived = self._step.derived
        leaf, wanted, _ = self._as_read(derived.raw.name.lower())
        names, (v,) = self._local(wanted)
        note = ", normalised without the norm's affine part" if self._opened else ""
        head = f"def code(self, {v}: Tensor) -> Tensor:  # {self._shape(derived.raw.rows)}{note}"
        return [*formula(self._step), *self._method(head, self._step.code, names, {leaf: v}, [])]

    def _forward(self) -> list[str]:
        derived = self._step.derived
        names, (z,) = self._local(derived.raw.name.lower())
        norms = self._norms(self._step.forward, z)
        inputs, first = self._read(z, names, norms)
        v = next(reversed(inputs.values()))
        handed = self._handed(names)
        inputs |= handed
        first += [self._estimated(leaf, text, v) for leaf, text in handed.items()]
        codes = [name for name in inputs_of(self._step.forward) if name not in inputs]
        if self._step.code and codes:
            inputs[codes[0]] = names.new(codes[0].lower().partition("^")[0])
            first.append(f"{inputs[codes[0]]} = self.code({v})")
        more = "".join(f", {text}: Tensor | None = None" for text in handed.values())
        if self._step.pruned:
            more = ", only_first: bool = False"
            first = ["if only_first:", f"    return self.first({z})", *first]
        head = f"def forward(self, {z}: Tensor{more}) -> Tensor:  # {self._shape(derived.raw.rows)}"
        method = self._method(head, self._step.forward, names, inputs, first, norms)
        return method if self._step.code else [*formula(self._step), *method]

    def _one(self, name: str, graph: Graph) -> list[str]:
        """The step for the first token, which the head reads, or for one that comes by itself."""
        derived = self._step.derived
        names, (z,) = self._local(derived.raw.name.lower())
        norms = self._norms(graph, z)
        inputs, first = self._read(z, names, norms)
        head = f"def {name}(self, {z}: Tensor) -> Tensor:  # (batch, 1, {derived.raw.rows})"
        about = "For one token: to collect weights would cost more." if graph.tokens == FIRST else FIRST_OF_ALL
        return self._method(head, graph, names, inputs, [f'"""{about}"""', *first], norms)

    def _fitting(self) -> list[str]:
        """What computes the matrices that the step keeps of data, none where it is learned."""
        names, (v,) = self._local("v" if self._normed else self._step.derived.raw.name.lower())
        handed = self._handed(names)
        return fitting_methods(self._step, self._class, names, {self._step.derived.read.name: v}, handed)

    def _handed(self, names: Names) -> dict[str, str]:
        """Given quantities, by the names of the arguments that hand them in."""
        return {q.name: names.new(q.name.lower()) for q in self._step.derived.quantities if q.is_given}

    @staticmethod
    def _estimated(leaf: str, text: str, v: str) -> str:
        return f"{text} = self.{estimate_of(leaf)}({v}) if {text} is None else {text}"

    def _advance(self, graph: Graph) -> list[str]:
        """The step for a text in parts."""
        derived = self._step.derived
        names, (z, memory) = self._local(derived.raw.name.lower(), "memory")
        inputs, first = self._read(z, names)
        rows = self._step.derived.raw.rows
        head = f"def advance(self, {z}: Tensor, {memory}: dict) -> Tensor:  # (batch, tokens, {rows})"
        about = '"""For further tokens; the memory is what those before them left, {} at first."""'
        own = self._own(graph, inputs)
        return [head, *indented([about, *first, *Body(graph, self._class, names, own, memory=memory).lines()])]

    # ---- energy -------------------------------------------------------------------------------------------------

    def _given(self) -> list[str]:
        """Leaves of the energy beside its variable: the tokens, where a code is sought."""
        variable = self._step.derived.objective.variable.name
        return [name for name in inputs_of(self._step.energy) if name != variable]

    def _energy(self) -> list[str]:
        derived = self._step.derived
        names, (x,) = self._local(derived.objective.variable.name.lower())
        handed = self._handed(names)
        variable, given = derived.objective.variable, [name for name in self._given() if name not in handed]
        text = f"{derived.step.energy.name} of {variable.name}, {self._shape(variable.rows)}"
        about = docstring([f"{text}: one number per {self._file.model.example}, (batch,)."])
        if given and derived.step.unknown is None:
            return self._held_energy(names, x, given[0], handed, text)
        others = {name: names.new("v" if self._normed else name.lower()) for name in given}
        inputs = {variable.name: x} | handed | others
        signature = ", ".join(f"{name}: Tensor" for name in inputs.values())
        if not inputs_of(self._step.energy):  # constraints alone, which are left out of energies
            return [f"def energy(self, {signature}) -> Tensor:", *indented([*about, f"return {x}.new_zeros(len({x}))"])]
        return self._method(f"def energy(self, {signature}) -> Tensor:", self._step.energy, names, inputs, about)

    def _held_energy(self, names: Names, x: str, given: str, handed: dict[str, str], text: str) -> list[str]:
        """The energy of a step with quantities, which are computed from other tokens where those are given."""
        held, variable = names.new("held"), self._step.derived.objective.variable.name
        about = [f"{text}: one number per {self._file.model.example}, (batch,).", ""]
        about += [f"What the derivation holds constant is computed from `{held}`; without it from {x} itself."]
        first = [*docstring(about), f"{held} = {x} if {held} is None else {held}"]
        more = "".join(f", {name}: Tensor" for name in handed.values())
        head = f"def energy(self, {x}: Tensor{more}, {held}: Tensor | None = None) -> Tensor:"
        return self._method(head, self._step.energy, names, {variable: x, given: held} | handed, first)

    def _energies(self) -> list[str]:
        names, (z,) = self._local(self._step.derived.raw.name.lower())
        which = "of the tokens as the step reads them, or raw" if self._normed else "of the tokens"
        about = f'"""The stated energy before and after the step, (batch,) each, {which}."""'
        head = f"def energies(self, {z}: Tensor, raw: bool = False) -> tuple[Tensor, Tensor]:"
        body = self._coded(z, names)
        if self._step.derived.objective.renorm:
            body = self._renormed(z)
        elif handed := self._handed(names):
            arguments = "".join(f", {text}" for text in handed.values())
            body = [f"{text} = self.{estimate_of(leaf)}({z})" for leaf, text in handed.items()]
            body += [f"return self.energy({z}{arguments}), self.energy(self({z}{arguments}){arguments})"]
        return [head, *indented([about, *body])]

    def _renormed(self, z: str) -> list[str]:
        held = f", {z}" if self._given() else ""
        return [
            f"after = self({z})",
            "if not raw:",
            f"    {z}, after = self.norm({z}), self.norm(after)",
            f"return self.energy({z}), self.energy(after{held})",
        ]

    def _coded(self, z: str, names: Names) -> list[str]:
        """The code that the step finds, whichever tokens the energy is then given."""
        given = self._given()
        lines, v = [], z
        if self._normed:
            v = names.new("v")
            lines.append(f"{v} = {z} if raw else self.norm({z})")
        after = f"self({z})" if not self._step.code else f"self.code({self._as_read(z)[2]})"
        rest = "".join(f", {v}" for _ in given)
        return [*lines, f"return self.energy({self._start(v, names)}{rest}), self.energy({after}{rest})"]

    def _start(self, v: str, names: Names) -> str:
        graph = self._step.start
        output = graph[graph.output]
        if output.kind == "zero":
            return f"{v}.new_zeros(*{v}.shape[:2], {self._size(output.type.rows)})"
        inputs = {self._step.derived.raw.name: v, self._step.derived.read.name: v}
        return Body(graph, self._class, names, inputs).lines()[-1].removeprefix("return ")
