"""The body of a method: a graph as statements, intermediates named where a reader wants a name.

A value gets a statement where it is used more than once, where its kind asks for one, or where a line would grow long.
Solves and log-determinants, and the small matrices that they read, stand in a block of their own without autocast.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace

import sympy

from crate_dsl.errors import CompilerBug
from crate_dsl.language.model import Block, LearnedScalar
from crate_dsl.library.scalars import base_name
from crate_dsl.operators.graph import FIRST, IDENTITY, Graph, Operator, Type
from crate_dsl.pytorch import causal_spelling, solve_spelling, sum_spelling  # noqa: F401 (register their kinds)
from crate_dsl.pytorch.expressions import ATOM, Code, broken, is_negated, scalar_code
from crate_dsl.pytorch.lines import INDENT
from crate_dsl.pytorch.names import Constants, Names
from crate_dsl.pytorch.number_spelling import spelled
from crate_dsl.pytorch.precision import MADE, precise_regions, read_by, readers, source_of, stays_wide, wide_values
from crate_dsl.pytorch.spelling import SPELLINGS

LONG, LINE = 84, 112  # characters of an expression that gets its own statement, and of a line
UNNAMED = {"input", "parameter", "constant", "column", "transpose", "identity", "ones", "zero"}


@dataclass(frozen=True)
class Class:
    """What the methods of one written class share: where its names stand for, and the helpers that they ask for."""

    block: Block | None
    constants: Constants
    attributes: Mapping[str, str]  # learned matrices and scalars by name, without "self."
    learned: Mapping[str, LearnedScalar]
    helpers: set[str]
    local: Mapping[str, str] = field(default_factory=dict)  # learned matrices that a method holds in variables
    gpu: bool = False  # whether kernels of Triton may be asked for


class Body:
    """Statements that compute the output of a graph; implements `Speaker` for the spellings.

    With `precise` they stand, indented, in a block that is in full precision as a whole. `memory` is the name of what
    the tokens so far hand to further ones, where a text comes in parts.
    """

    def __init__(
        self,
        graph: Graph,
        owner: Class,
        names: Names,
        inputs: Mapping[str, str],
        precise: bool = False,
        memory: str = "",
        counted: Mapping[str, str] | None = None,
        norms: Mapping[str, tuple[str, str]] | None = None,
        made: Mapping[int, str] | None = None,
    ) -> None:
        self._graph, self._owner, self._names, self._inputs = graph, owner, names, inputs
        self._memory, self._slots, self._count = memory, {}, ""
        self._precise_like = ""  # what new tensors are like within a block of full precision
        self._counted = counted or {}  # axes whose length is that of the data: in coefficients, and what is learned
        self._norms = norms or {}  # inputs that are written as a value and its norm
        self._made = made or {}  # values that something else than their spelling makes
        self._lines: list[str] = []
        self._indent = INDENT if precise else ""
        self._codes: dict[int, Code] = {}
        self._scalars: dict[str, str] = {}
        self._uses = Counter(self._source(n) for number in graph for n in graph[number].inputs)
        self._regions = [] if precise else precise_regions(graph)  # none where all of it is in full precision
        self._exact: set[int] = set().union(*self._regions)  # in full precision also under autocast
        self._wide = wide_values(graph, self._regions)
        self._wide_names: dict[int, str] = {}  # names of what blocks of full precision read

    def lines(self) -> list[str]:
        """All statements, the last one returning the output with tokens as rows."""
        output = self._graph.output
        for number in self._graph.operators("prox"):  # iteration by iteration, so that long unrollings recurse little
            if number != output:
                self._plain(number)
        kind = self._graph[output].type
        code = self.code(output, self.flipped(kind))
        if kind.cols in (self._graph.tokens, FIRST) and (narrow := self.narrowing(output)):
            code = Code(code.at(ATOM) + narrow)
        return [*self._lines, *(self._indent + line for line in broken(f"return {code.text}", code.level, LINE))]

    # ---- what spellings ask for ---------------------------------------------------------------------------------

    def operator(self, number: int) -> Operator:
        return self._graph[number]

    def flipped(self, kind: Type) -> bool:
        """Tokens are rows in torch: what has them as columns is held transposed."""
        return kind.batch and kind.cols in (self._graph.tokens, FIRST)

    def size(self, axis: str) -> str:
        """The length of an axis; that of the tokens is read off the input, since a text may be short."""
        if axis == self._graph.tokens:
            return f"{next(iter(self._inputs.values()))}.shape[1]"
        return self._owner.constants.size(axis, self._owner.block)

    @property
    def gpu(self) -> bool:
        return self._owner.gpu

    def helper(self, name: str) -> str:
        self._owner.helpers.add(name)
        return name

    def reference(self) -> str:
        """A tensor with the type and device that new ones should have: the first input of the method."""
        return self._precise_like or next(iter(self._inputs.values()))

    def narrowing(self, number: int, into: Operator | None = None) -> str:
        """What takes a value of full precision back to that of the tokens, where it goes out or meets values of it."""
        stays = into is not None and stays_wide(self._graph, into, self._wide)
        if self._source(number) not in self._wide or self._precise_like or stays:
            return ""
        return f".to({next(iter(self._inputs.values()))}.dtype)"

    def slot(self, key: Hashable) -> str:
        """Where something is kept for further tokens: the memory, and a number; "" where all tokens come at once."""
        return f"{self._memory}, {self._slots.setdefault(key, len(self._slots))}" if self._memory else ""

    def count(self) -> str:
        """The number of tokens so far, counted once per call; "" where all tokens come at once."""
        if self._memory and not self._count:
            self._count = self._names.new("count")
            further = self.size(self._graph.tokens)
            self._write(f"{self._count} = {self.helper('count_now')}({further}, {self.slot('count')})")
        return self._count

    def norm_of(self, number: int) -> tuple[str, str] | None:
        """The tokens and their norm, where a value is normed tokens that are not at hand as such."""
        operator = self._graph[number]
        return self._norms.get(operator.attributes[0]) if operator.kind == "input" else None

    def is_learned(self, value: sympy.Expr) -> bool:
        return any(base_name(symbol) in self._owner.learned for symbol in value.free_symbols)

    def scalar(self, value: sympy.Expr, like: Type) -> Code:
        def lookup(symbol: sympy.Symbol) -> Code:
            name, _, family = symbol.name.partition("[")
            if name in self._counted:
                return Code(self._counted[name])
            if name not in self._owner.learned:
                return Code(self._owner.constants.number(name, self._owner.block))
            text = self._learned(name)
            wide = "" if like.is_scalar or not family else f".view({self.size(family[:-1])}, 1, 1)"
            return Code(text + wide, is_tensor=True)

        return scalar_code(value, lookup)

    def code(self, number: int, flipped: bool, wide: Type | None = None) -> Code:
        """A value in the orientation asked for, with an axis for the family where `wide` has one and the value none."""
        operator = self._graph[number]
        if operator.kind == "transpose":
            return self.code(operator.inputs[0], not flipped, wide.T if wide else None)
        code = self._plain(number)
        kind = operator.type
        if kind.is_scalar:
            is_number = operator.kind == "constant" and not self.is_learned(operator.attributes[0])
            return code if is_number else self._widened(code, kind, wide)
        if wide and wide.family and kind.batch and not kind.family:
            code = Code(f"{code.at(ATOM)}.unsqueeze(1)", ATOM, code.flipped)
        if code.flipped == flipped:
            return code
        return Code(f"{code.at(ATOM)}.{'mT' if kind.batch or kind.family else 'T'}", ATOM, flipped)

    def _widened(self, code: Code, kind: Type, wide: Type | None) -> Code:
        """A number per image or head with the axes of the value that it goes with."""
        if wide is None:
            return code
        missing = int(kind.batch and not kind.family and wide.family is not None) + 2 * (not wide.is_scalar)
        axes = ["None"] * missing
        return replace(code, text=f"{code.at(ATOM)}[{', '.join(['...', *axes])}]", level=ATOM) if axes else code

    def named(self, number: int, flipped: bool) -> str:
        """A value's text, made a name first where it is an expression."""
        source = self._source(number)
        self._plain(source)
        if not self._codes[source].text.replace(".", "").replace("_", "").isalnum():
            self._state(source)
        return self.code(number, flipped).text

    # ---- statements ---------------------------------------------------------------------------------------------

    def _source(self, number: int) -> int:
        return source_of(self._graph, number)

    def _plain(self, number: int) -> Code:
        if number not in self._codes:
            self._enter(number)
            if number not in self._codes:
                self._make(number)
        return self._codes[number]

    def _make(self, number: int) -> None:
        operator = self._graph[number]
        made = self._made.get(number)
        self._codes[number] = Code(made) if made else self._leaf(operator) or self._spelled(operator)
        if operator.kind not in UNNAMED and number != self._graph.output and self._wants_name(number):
            self._state(number)

    def _spelled(self, operator: Operator) -> Code:
        """The spelling; where it comes out too long, its longest input becomes a statement."""
        if operator.kind not in SPELLINGS:
            raise CompilerBug(f"no torch spelling of the operator {operator.kind}")
        code = spelled(operator, self)
        while len(code.text) > LINE - len(self._indent) - 20:
            parts = [n for n in map(self._part_of, operator.inputs) if n in self._codes]
            longest = max(parts, key=lambda n: len(self._codes[n].text), default=None)
            if longest is None or self._codes[longest].text.isidentifier() or self._graph[longest].kind in UNNAMED:
                break
            self._state(longest)
            code = spelled(operator, self)
        return code

    def _part_of(self, number: int) -> int:
        """The value whose text an operator on this one holds: of a column in a sum, that of its vector."""
        source = self._source(number)
        is_vector = self._graph[source].kind == "column" and source not in self._codes
        return self._source(self._graph[source].inputs[0]) if is_vector else source

    def _wants_name(self, number: int) -> bool:
        kind = self._graph[number].kind
        code = self._codes[number]
        often = self._uses[number] > 1 and not code.text.isidentifier()
        users = [self._graph[n] for n in self._graph.users(number)]
        if not often and users and all(user.kind == "quantity" for user in users):
            return False  # the quantity takes a name at once
        return often or SPELLINGS[kind].always or len(code.text) > LONG or self._is_weights(number) or _projects(code)

    def _is_weights(self, number: int) -> bool:
        """A matrix made of weights alone, which tokens are then multiplied by."""
        operator = self._graph[number]
        users = [self._graph[n] for n in self._graph.users(number)]
        return operator.kind == "combine" and not operator.type.batch and any(user.type.batch for user in users)

    def _state(self, number: int) -> None:
        """Give a value a statement of its own, with its shape at the end of the line."""
        code, kind = self._codes[number], self._graph[number].type
        name = self._names.new(self._hint(number))
        self._write(f"{name} = {code.text}", f"  # {self._shape(kind, code.flipped)}", code.level)
        self._codes[number] = Code(name, ATOM, code.flipped)

    def _write(self, statement: str, comment: str = "", level: int = ATOM) -> None:
        if len(self._indent + statement + comment) > LINE:
            self._lines.append(self._indent + comment.strip())
            comment = ""
        self._lines += [self._indent + line for line in broken(statement + comment, level, LINE - len(self._indent))]

    def _shape(self, kind: Type, flipped: bool) -> str:
        front = (["batch"] if kind.batch else []) + ([kind.family] if kind.family else [])
        back = [] if kind.is_scalar else [kind.cols, kind.rows] if flipped else [kind.rows, kind.cols]
        named = {FIRST: "1"} | ({self._graph.tokens: "tokens"} if self._memory else {})
        axes = [named.get(axis, axis) for axis in (*front, *back)]
        return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"

    def _hint(self, number: int) -> str:
        operator, code = self._graph[number], self._codes[number]
        if operator.kind in ("quantity", "parameter"):
            return operator.attributes[0].lower()
        if operator.kind == "prox":
            return operator.attributes[1].lower().replace("^", "")
        if _projects(code):
            return "w"
        if operator.kind == "product":
            return "gram" if operator.type.is_square and operator.type.batch else "product"
        if operator.kind == "combine":
            if not operator.type.batch:
                return "M"
            mixed = len({is_negated(c) for c in operator.attributes[0]}) == 2
            return "matrix" if operator.type.is_square else "residual" if mixed else "update"
        if operator.kind == "reduce":
            return {"norm2": "squares", "l1": "magnitude"}.get(operator.attributes[0], operator.attributes[0])
        return SPELLINGS[operator.kind].name

    # ---- leaves -------------------------------------------------------------------------------------------------

    def _leaf(self, operator: Operator) -> Code | None:
        if operator.kind == "input":
            return Code(self._inputs[operator.attributes[0]], ATOM, self.flipped(operator.type))
        if operator.kind != "parameter":
            return None
        name = operator.attributes[0]
        if operator.attributes[1:] == (IDENTITY,):
            like = self.reference()
            attribute = f"torch.eye({self.size(operator.type.rows)}, dtype={like}.dtype, device={like}.device)"
        else:
            attribute = self._owner.local.get(name) or f"self.{self._owner.attributes[name]}"
        if operator.type.is_scalar:
            return Code(attribute)
        kind = operator.type
        rows, cols = self._part(kind.rows), self._part(kind.cols)
        if kind.family:
            apart = f".unflatten(0, ({self.size(kind.family)}, -1))"
            attribute += f"[:, {rows}]" if rows else ""
            attribute += f"{apart}[:, {cols}].flatten(0, 1)" if cols else ""
            return Code(attribute + apart, ATOM, True)
        attribute += f"[{rows or ':'}, {cols}]" if cols else f"[{rows}]" if rows else ""
        if kind.cols == "1":
            return Code(f"{attribute}.unsqueeze(0)", ATOM, True)
        return Code(attribute)

    def _part(self, axis: str) -> str:
        """Which part of what is learned for every token belongs to those that came; "" for all of it."""
        if axis != self._graph.tokens or not (self._memory or axis in self._counted):
            return ""
        if not self._memory:
            return f": {self._counted[axis]}"
        return f"{self.count()} - {self.size(axis)} : {self.count()}"

    def _learned(self, name: str) -> str:
        """A learned scalar; one with a bound is stored as the logarithm of its distance to it."""
        scalar, attribute = self._owner.learned[name], self._owner.attributes[name]
        if scalar.lower is None:
            return f"self.{attribute}"
        if name not in self._scalars:
            self._scalars[name] = self._names.new(name)
            bound = f"{float(scalar.lower)!r} + " if scalar.lower else ""
            self._write(f"{self._scalars[name]} = {bound}self.{attribute}.exp()")
        return self._scalars[name]

    # ---- full precision -----------------------------------------------------------------------------------------

    def _enter(self, number: int) -> None:
        """Write a region that must not run in half precision as one block, when its first value is asked for."""
        region = next((region for region in self._regions if number in region), None)
        if region is None:
            return
        self._regions.remove(region)
        border = read_by(self._graph, region)
        for source in border:
            self._plain(source)
            if self._graph[source].kind not in UNNAMED and not self._codes[source].text.isidentifier():
                self._state(source)
        self._scalars_of(region)
        self._write(f"with torch.autocast({self.reference()}.device.type, enabled=False):", "  # at least float32")
        self._indent = INDENT
        outer = dict(self._codes)
        self._codes = {n: code for n, code in outer.items() if self._graph[n].kind not in MADE}
        for source in border:
            self._widen(source)
        matrices = [self._codes[n].text for n in border if not self._graph[n].type.is_scalar]
        self._precise_like = matrices[0] if matrices else f"{self.helper('at_least_float32')}({self.reference()})"
        self._state_inside(region)
        self._indent, self._precise_like = "", ""
        self._codes = {n: code for n, code in self._codes.items() if n in region} | outer

    def _state_inside(self, region: set[int]) -> None:
        for inside in sorted(region):
            self._plain(inside)
            outside = inside == self._graph.output or any(n not in region for n in readers(self._graph, inside))
            if outside and not self._codes[inside].text.isidentifier():
                self._state(inside)

    def _scalars_of(self, region: set[int]) -> None:
        """Learned scalars stand before the block, where later lines can read them too."""
        for inside in sorted(region):
            for attribute in self._graph[inside].attributes:
                for value in attribute if isinstance(attribute, tuple) else ():
                    for symbol in getattr(value, "free_symbols", ()):
                        if base_name(symbol) in self._owner.learned:
                            self._learned(base_name(symbol))

    def _widen(self, source: int) -> None:
        """Under a name of its own where the value is also read as it was: two precisions would meet there."""
        code = self._codes[source]
        if source in self._exact:
            return
        if source not in self._wide_names:
            hint, name = re.split(r"[.\[]", code.text.removeprefix("self."))[0], code.text
            if not name.isidentifier():
                name = self._names.new(hint)
            elif name == self.reference() or not self._wide.issuperset(readers(self._graph, source)):
                name = self._names.new(f"{hint}_wide")
            self._write(f"{name} = {self.helper('at_least_float32')}({code.text})")
            self._wide_names[source] = name
        self._codes[source] = Code(self._wide_names[source], ATOM, code.flipped)


def _projects(code: Code) -> bool:
    return code.text.startswith(("split_heads(F.linear(", "split_heads(normed_linear(")) and code.level == ATOM
