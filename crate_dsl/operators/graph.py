"""The operator graph: typed operators on matrices whose axes have names.

Everything stays in the columns convention of the papers (tokens: d x N). A value may have two more axes in front: the
batch, and a family (the heads). A graph is never changed; passes build new ones with `Builder`, which shares equal
operators as it goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sympy

from crate_dsl.language.model import ONE, axis_size
from crate_dsl.library.scalars import scalar_indices

if TYPE_CHECKING:
    import networkx

FIRST = "#1"  # the axis of one chosen token, of length 1; no spec can name it

IDENTITY = "identity"  # said of a family whose members beside each other are the identity


@dataclass(frozen=True)
class Type:
    """`[batch x] [family of] rows x cols`, all axes by name; an axis may also be spelled as a number."""

    rows: str
    cols: str
    family: str | None = None
    batch: bool = False
    diagonal: bool = False  # a diagonal matrix, of which only the diagonal is ever stored

    @property
    def T(self) -> Type:
        return replace(self, rows=self.cols, cols=self.rows)

    @property
    def is_scalar(self) -> bool:
        return self.rows == ONE and self.cols == ONE

    @property
    def is_square(self) -> bool:
        return self.rows == self.cols

    def of(self, rows: str, cols: str) -> Type:
        return replace(self, rows=rows, cols=cols, diagonal=False)

    def __str__(self) -> str:
        front = ("batch x " if self.batch else "") + (f"{self.family} of " if self.family else "")
        return f"{front}{'diagonal ' * self.diagonal}{self.rows} x {self.cols}"


@dataclass(frozen=True)
class Operator:
    """One operation; `kind` is a name in `operators/kinds.py`, `inputs` are numbers of operators in the same graph."""

    kind: str
    inputs: tuple[int, ...]
    type: Type
    attributes: tuple[Any, ...] = ()

    def on(self, inputs: tuple[int, ...]) -> Operator:
        """The same operation on other operators."""
        return Operator(self.kind, inputs, self.type, self.attributes)

    @property
    def terms(self) -> list[tuple[sympy.Expr, int]]:
        """Of a `combine`: its inputs with their coefficients."""
        return list(zip(self.attributes[0], self.inputs, strict=True))

    def __str__(self) -> str:
        inputs = " ".join(f"%{n}" for n in self.inputs)
        return " ".join(part for part in (self.kind, _attributes_text(self.attributes), inputs) if part)


def _attributes_text(attributes: tuple[Any, ...]) -> str:
    texts = [", ".join(map(str, a)) if isinstance(a, tuple) else str(a) for a in attributes if _printable(a)]
    return f"[{'; '.join(texts)}]" if texts else ""


def _printable(attribute: object) -> bool:
    return isinstance(attribute, str | int | tuple | sympy.Basic) and attribute != ()


@dataclass(frozen=True, eq=False)
class Graph:
    """Operators by number, inputs before users, with named outputs.

    `sizes` are those of its block, `tokens` is the axis of the tokens.

    Two graphs are equal where they are one object, so that what was found out about one can be remembered.

    A causal graph is to be read prefix by prefix: column t of an output is its last column where the tokens are 1..t
    and their number is t. What holds of all matrices holds of every prefix, so passes need not know; one of them
    (`passes/causal.py`) turns it into an ordinary graph that computes all columns at once.
    """

    name: str
    numbered: Mapping[int, Operator]
    outputs: tuple[tuple[str, int], ...]
    sizes: Mapping[str, int]
    tokens: str
    causal: bool = False

    def __getitem__(self, number: int) -> Operator:
        return self.numbered[number]

    def __iter__(self) -> Iterator[int]:
        """Numbers of all operators, inputs before users."""
        return iter(self.numbered)

    @property
    def output(self) -> int:
        return self.outputs[0][1]

    def users(self, number: int) -> list[int]:
        return self._users[number]

    @cached_property
    def _users(self) -> Mapping[int, list[int]]:
        users: dict[int, list[int]] = {number: [] for number in self}
        for number in self:
            for source in dict.fromkeys(self[number].inputs):
                users[source].append(number)
        return users

    def needed_for(self, numbers: Iterable[int]) -> set[int]:
        """These operators, and all that they are made of."""
        needed = set(numbers)
        for number in reversed(list(self)):
            if number in needed:
                needed.update(self[number].inputs)
        return needed

    def made_of(self, numbers: Iterable[int]) -> set[int]:
        """These operators, and all that is made of them."""
        made = set(numbers)
        for number in self:
            if not made.isdisjoint(self[number].inputs):
                made.add(number)
        return made

    def giving(self, outputs: tuple[tuple[str, int], ...]) -> Graph:
        """The graph of what these outputs need."""
        needed = sorted(self.needed_for(number for _, number in outputs))
        return replace(self, numbered={number: self[number] for number in needed}, outputs=outputs)

    def network(self) -> networkx.DiGraph:
        """The graph for what networkx knows to do with one: nodes are the numbers, with their `operator`.

        Compiling asks for none, and the import takes a third of the time that sympy's does.
        """
        import networkx

        network = networkx.DiGraph()
        network.add_nodes_from((number, {"operator": operator}) for number, operator in self.numbered.items())
        network.add_edges_from((source, number) for number in self for source in self[number].inputs)
        return network

    def operators(self, kind: str) -> list[int]:
        return [number for number in self if self[number].kind == kind]

    def size(self, axis: str) -> int:
        return axis_size(axis, self.sizes)

    def __str__(self) -> str:
        lines = [f"graph {self.name}" + (", prefix by prefix" if self.causal else "")]
        lines += [f"  %{n} = {self[n]} : {self[n].type}" for n in self]
        return "\n".join(lines + [f"  {name} -> %{n}" for name, n in self.outputs])


def coefficient_family(coefficient: sympy.Expr) -> str | None:
    """The family axis of a coefficient per head: the lowering writes `kappa[K]` for every index into K."""
    return next(iter(sorted(scalar_indices(coefficient))), None)


class Builder:
    """Grows a graph; an operator that exists already is shared, not added."""

    def __init__(self, name: str, sizes: Mapping[str, int], tokens: str, causal: bool = False) -> None:
        self.name, self.sizes, self.tokens, self.causal = name, sizes, tokens, causal
        self._operators: list[Operator] = []
        self._known: dict[Operator, int] = {}

    def __getitem__(self, number: int) -> Operator:
        return self._operators[number]

    def type(self, number: int) -> Type:
        return self._operators[number].type

    def __contains__(self, operator: Operator) -> bool:
        return operator in self._known

    def add(self, operator: Operator) -> int:
        number = self._known.setdefault(operator, len(self._operators))
        if number == len(self._operators):
            self._operators.append(operator)
        return number

    def graph(self, outputs: tuple[tuple[str, int], ...]) -> Graph:
        """The operators that the outputs need."""
        numbered = dict(enumerate(self._operators))  # inputs have smaller numbers than what they are inputs of
        return Graph(self.name, numbered, outputs, self.sizes, self.tokens, self.causal).giving(outputs)


Operators = Graph | Builder  # operators by number, and the axis of the tokens
