"""What a graph costs: operations and bytes of a forward pass, as a function of the batch, the tokens and the sizes.

What does not depend on the tokens is counted once, whatever the batch. A backward pass takes about twice the forward
one, operator by operator, so the form that is cheaper forward is cheaper in training too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from crate_dsl.operators import causal_kinds  # noqa: F401 (registers its kinds)
from crate_dsl.operators.graph import Graph, Operator, Type
from crate_dsl.operators.kinds import KINDS, entries

BATCH = 8
MOST_REMEMBERED = 64  # graphs whose cost is kept; passes ask for that of one and the same graph again and again
WORD = 4  # bytes of a float32
BALANCE = 4.0  # operations that a machine does while it moves one byte; 4 to 10 on processors, 100 and more on GPUs


@dataclass(frozen=True)
class Workload:
    """What a graph is made fast for: inputs at a time, and whether weights are constants that change no more."""

    batch: int = BATCH
    frozen: bool = False


TRAINING = Workload()


@dataclass(frozen=True)
class Cost:
    flops: int
    bytes: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.flops + other.flops, self.bytes + other.bytes)

    @property
    def time(self) -> float:
        """In units of one operation."""
        return self.flops + BALANCE * self.bytes


@lru_cache(MOST_REMEMBERED)
def price(graph: Graph, workload: Workload) -> float:
    """What passes compare: the time of the graph, in units of one operation; what is made once and kept is free."""
    total, known = 0.0, _prices(tuple(graph.sizes.items()), workload)
    for number in graph:
        operator = graph[number]
        if operator.type.batch or not workload.frozen:
            types = tuple(graph[n].type for n in operator.inputs)
            shape = (operator.kind, operator.attributes, operator.type, types)
            if shape not in known:
                known[shape] = _live_cost(graph, number, workload).time
            total += known[shape]
    return total


@lru_cache(MOST_REMEMBERED)
def _prices(sizes: tuple[tuple[str, int], ...], workload: Workload) -> dict[tuple, float]:
    """What operations cost, once known: equal ones on values of equal shapes cost the same in every graph."""
    return {}


def _live_cost(graph: Graph, number: int, workload: Workload) -> Cost:
    """Products of weights inside a longer product are made once too."""
    operator = graph[number]
    if workload.frozen and operator.kind == "product" and len(operator.inputs) > 2:
        return chain_order(graph, tuple(graph[n].type for n in operator.inputs), workload)[0]
    return operator_cost(graph, number, workload.batch)


@lru_cache(MOST_REMEMBERED)
def cost(graph: Graph, batch: int = BATCH) -> Cost:
    """The sum over all operators."""
    return sum((operator_cost(graph, number, batch) for number in graph), Cost(0, 0))


def operator_cost(graph: Graph, number: int, batch: int = BATCH) -> Cost:
    """Operations of one operator, and bytes read and written; views and leaves are free."""
    operator = graph[number]
    types = [graph[n].type for n in operator.inputs]
    if operator.kind in ("transpose", "column", "diagonal", "quantity", "first") or not types:
        return Cost(0, 0)
    if operator.kind == "product" and len(types) > 2:
        return chain_cost(graph, types, batch)
    return _once(graph, operator, types, batch)


def _once(graph: Graph, operator: Operator, types: Sequence[Type], batch: int) -> Cost:
    copies = copies_of(graph, _widest(operator, types), batch)
    moved = sum(_entries(graph, t, batch) for t in (*types, operator.type))
    return Cost(copies * KINDS[operator.kind].flops(operator, list(types), graph.size), WORD * moved)


def _widest(operator: Operator, types: Sequence[Type]) -> Type:
    """The front axes over which an operator repeats; `merged` counts its family itself."""
    if operator.kind == "merged":
        return operator.type
    family = next((t.family for t in (operator.type, *types) if t.family), None)
    return Type("1", "1", family, operator.type.batch)


def copies_of(graph: Graph, kind: Type, batch: int) -> int:
    """How many matrices of a type there are: one for each member of its family and, where it has one, of the batch."""
    return (batch if kind.batch else 1) * (graph.size(kind.family) if kind.family else 1)


def _entries(graph: Graph, kind: Type, batch: int) -> int:
    return entries(kind, graph.size) * copies_of(graph, kind, batch)


# ---- chains of products ----------------------------------------------------------------------------------------


def chain_cost(graph: Graph, types: Sequence[Type], batch: int) -> Cost:
    """The cost of a product of many factors in its best order."""
    return chain_order(graph, tuple(types), Workload(batch))[0]


def chain_order(graph: Graph, types: tuple[Type, ...], workload: Workload) -> tuple[Cost, tuple]:
    """The cheapest order, as nested pairs of places: `(0, (1, 2))` is `A (B C)`."""

    @cache
    def best(first: int, last: int) -> tuple[Cost, tuple | int]:
        if first == last:
            return Cost(0, 0), first
        return min((split(first, middle, last) for middle in range(first, last)), key=lambda found: found[0].time)

    def split(first: int, middle: int, last: int) -> tuple[Cost, tuple]:
        (left_cost, left), (right_cost, right) = best(first, middle), best(middle + 1, last)
        own = pair_cost(graph, span(first, middle), span(middle + 1, last), workload)
        return left_cost + right_cost + own, (left, right)

    @cache
    def span(first: int, last: int) -> Type:
        return product_type(types[first : last + 1])

    return best(0, len(types) - 1)


def pair_cost(graph: Graph, left: Type, right: Type, workload: Workload) -> Cost:
    operator = Operator("product", (), product_type((left, right)))
    made_once = workload.frozen and not operator.type.batch
    return Cost(0, 0) if made_once else _once(graph, operator, (left, right), workload.batch)


def product_type(types: Sequence[Type]) -> Type:
    family = next((t.family for t in types if t.family), None)
    return Type(types[0].rows, types[-1].cols, family, any(t.batch for t in types), all(t.diagonal for t in types))


# ---- printing --------------------------------------------------------------------------------------------------


def table(graph: Graph, batch: int = BATCH) -> str:
    """The graph with shape, operations and bytes of every operator; what `--emit graph` prints.

    A causal graph still to be read prefix by prefix has the costs of its longest prefix alone.
    """
    rows = []
    for number in graph:
        own = operator_cost(graph, number, batch)
        counts = f"{quantity(own.flops)}FLOP  {quantity(own.bytes)}B" if own.bytes else ""
        rows.append((f"  %{number} = {graph[number]}", str(graph[number].type), counts))
    widths = [min(60, max((len(row[column]) for row in rows), default=0)) for column in (0, 1)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}".rstrip() for a, b, c in rows]
    total = cost(graph, batch)
    sizes = f"batch {batch}, {graph.tokens} {graph.sizes[graph.tokens]}{', the longest prefix' * graph.causal}"
    head = f"graph {graph.name} ({sizes}): {quantity(total.flops)}FLOP, {quantity(total.bytes)}B"
    return "\n".join([head, *lines, *(f"  {name} -> %{n}" for name, n in graph.outputs)])


def quantity(value: float) -> str:
    """
    >>> quantity(2_500_000), quantity(12)
    ('2.50 M', '12 ')
    """
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}" if value >= 100 * factor else f"{value / factor:.2f} {letter}"
    return f"{value:g} "
