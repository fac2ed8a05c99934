"""Terms of a sum that share their first or their last factor: `A X + B X = (A + B) X`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy

from crate_dsl.operators.build import combine, factors_of, identity, product, terms_of
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.rewrite import rebuild

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
            factors = graph[term].inputs if graph[term].kind == "product" else (term,)
            ends.setdefault(factors[0 if side == LEFT else -1], []).append(place)
        found += [Group(number, side, end, tuple(places)) for end, places in ends.items() if len(places) > 1]
    return found


def rests(graph: Graph, group: Group) -> list[tuple[int, ...]]:
    """What stays of each term without the common factor."""
    terms = [graph[group.number].inputs[place] for place in group.places]
    lists = [graph[t].inputs if graph[t].kind == "product" else (t,) for t in terms]
    return [factors[1:] if group.side == LEFT else factors[:-1] for factors in lists]


def hoists(graph: Graph, group: Group) -> bool:
    """Whether grouping collects weights alone before common tokens."""
    weights = [n for rest in rests(graph, group) for n in rest]
    batched = any(graph[n].type.batch for n in weights)
    return group.side == RIGHT and graph[group.common].type.batch and bool(weights) and not batched


def grouped(graph: Graph, group: Group) -> Graph:
    """The graph with the group's terms made one product."""
    place = iter(graph)

    def rule(builder: Builder, operator: Operator) -> int | None:
        return _joined(builder, operator, group) if next(place) == group.number else None

    return rebuild(graph, rule)


def _joined(builder: Builder, operator: Operator, group: Group) -> int:
    coefficients = operator.attributes[0]
    terms = list(zip(coefficients, operator.inputs, strict=True))
    scale = _common(coefficients[group.places[0]], operator, group)
    cut = (lambda factors: factors[1:]) if group.side == LEFT else (lambda factors: factors[:-1])
    inner = [(coefficients[p] / scale, _rest(builder, operator.inputs[p], cut, group.side)) for p in group.places]
    factors = factors_of(builder, operator.inputs[group.places[-1]])
    common = factors[0] if group.side == LEFT else factors[-1]
    total = _sum(builder, inner)
    joint = product(builder, (common, total) if group.side == LEFT else (total, common))
    terms[group.places[0]] = (scale, joint)
    kept = [term for p, term in enumerate(terms) if p == group.places[0] or p not in group.places]
    return combine(builder, kept, operator.type.rows, operator.type.cols)


def _common(first: sympy.Expr, operator: Operator, group: Group) -> sympy.Expr:
    """What the terms' coefficients have in common, so that `eta D'v - eta D'Dv` becomes `eta D'(v - Dv)`."""
    ratios = [operator.attributes[0][p] / first for p in group.places]
    return first if all(ratio.is_number for ratio in ratios) else sympy.Integer(1)


def _rest(builder: Builder, term: int, cut: Callable[[tuple[int, ...]], tuple[int, ...]], side: str) -> int:
    factors = factors_of(builder, term)
    kept = cut(factors)
    if kept:
        return product(builder, kept)
    kind = builder.type(factors[0])
    return identity(builder, kind.cols if side == LEFT else kind.rows)


def _sum(builder: Builder, terms: list[tuple[sympy.Expr, int]]) -> int:
    if len(terms) == 1:
        terms = [(terms[0][0] * inner, n) for inner, n in terms_of(builder, terms[0][1])]
    return combine(builder, terms)
