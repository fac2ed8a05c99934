"""Terms of a sum that share their first or their last factor: `A X + B X = (A + B) X`."""

from __future__ import annotations

from dataclasses import dataclass

import sympy

from crate_dsl.operators.build import combine, factors_of, identity, product
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.rewrite import rebuild_one

LEFT, RIGHT = "left", "right"


@dataclass(frozen=True)
class Group:
    """Places of terms in a sum whose products begin (left) or end (right) with the same factor."""

    number: int  # of the sum
    side: str
    common: int
    places: tuple[int, ...]


def groups(graph: Graph, side: str) -> list[Group]:
    """All groups of two terms and more; a term may be the common factor alone."""
    found = []
    for number in graph.operators("combine"):
        ends: dict[int, list[int]] = {}
        for place, term in enumerate(graph[number].inputs):
            end, _ = _parted(factors_of(graph, term), side)
            ends.setdefault(end, []).append(place)
        found += [Group(number, side, end, tuple(places)) for end, places in ends.items() if len(places) > 1]
    return found


def rests(graph: Graph, group: Group) -> list[tuple[int, ...]]:
    """What stays of each term without the common factor."""
    terms = [graph[group.number].inputs[place] for place in group.places]
    return [_parted(factors_of(graph, term), group.side)[1] for term in terms]


def _parted(factors: tuple[int, ...], side: str) -> tuple[int, tuple[int, ...]]:
    """The factor at one end of a product, and the rest."""
    return (factors[0], factors[1:]) if side == LEFT else (factors[-1], factors[:-1])


def hoists(graph: Graph, group: Group) -> bool:
    """Whether grouping collects weights alone before common tokens."""
    weights = [n for rest in rests(graph, group) for n in rest]
    batched = any(graph[n].type.batch for n in weights)
    return group.side == RIGHT and graph[group.common].type.batch and bool(weights) and not batched


def grouped(graph: Graph, group: Group) -> Graph:
    """The graph with the group's terms made one product."""
    return rebuild_one(graph, group.number, lambda builder, operator: _joined(builder, operator, group))


def _joined(builder: Builder, operator: Operator, group: Group) -> int:
    terms = operator.terms
    members = [terms[place] for place in group.places]
    scale = _common([coefficient for coefficient, _ in members])
    inner = [(coefficient / scale, _rest(builder, term, group.side)) for coefficient, term in members]
    common, _ = _parted(factors_of(builder, members[-1][1]), group.side)
    total = combine(builder, inner)
    joint = product(builder, (common, total) if group.side == LEFT else (total, common))
    terms[group.places[0]] = (scale, joint)
    kept = [term for p, term in enumerate(terms) if p == group.places[0] or p not in group.places]
    return combine(builder, kept, operator.type.rows, operator.type.cols)


def _common(coefficients: list[sympy.Expr]) -> sympy.Expr:
    """What coefficients of terms have in common, so that `eta D'v - eta D'Dv` becomes `eta D'(v - Dv)`."""
    first = coefficients[0]
    return first if all((coefficient / first).is_number for coefficient in coefficients) else sympy.Integer(1)


def _rest(builder: Builder, term: int, side: str) -> int:
    """A term without the common factor, which leaves an identity of itself."""
    common, kept = _parted(factors_of(builder, term), side)
    if kept:
        return product(builder, kept)
    kind = builder.type(common)
    return identity(builder, kind.cols if side == LEFT else kind.rows)
