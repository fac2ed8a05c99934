"""Distribute constant weights over what they are applied to: `U (Diag(g) X + s 1') = (U Diag(g)) X + (U s) 1'`.

Only where weights are constants: products of weights are then made once, and what is left of the tokens is one product
and one bias. Numbers before a product of weights go into these likewise: `c U X = (c U) X`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import takewhile

import sympy

from crate_dsl.operators.build import combine, diagonal, family_sum, ones, product, terms_of, transposed
from crate_dsl.operators.columns import Fixed
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import Builder, Graph, Operator, coefficient_family
from crate_dsl.operators.rewrite import Rule, rebuild
from crate_dsl.operators.weights import Weights

one = sympy.Integer(1)


def distribute(graph: Graph, workload: Workload) -> Graph:
    """Open quantities where all that is read of them are products with weights, then sums, then take numbers in."""
    if not workload.frozen:
        return graph
    for pick in (_opening, _each_product):
        graph = _cheapest(graph, workload, pick)
    candidate = rebuild(graph, _scaling(graph))
    return candidate if price(candidate, workload) < price(graph, workload) else graph


def _cheapest(graph: Graph, workload: Workload, pick: Callable[[Graph], list[Rule]]) -> Graph:
    """One candidate after the other, as long as one costs less."""
    for rule in pick(graph):
        candidate = rebuild(graph, rule)
        if price(candidate, workload) < price(graph, workload):
            return _cheapest(candidate, workload, pick)
    return graph


def _opening(graph: Graph) -> list[Rule]:
    """Every quantity of tokens, in all products that read it."""
    return [_distributing(graph, quantity=n) for n in graph.operators("quantity") if graph[n].type.batch]


def _each_product(graph: Graph) -> list[Rule]:
    return [_distributing(graph, place=n) for n in graph.operators("product")]


def _distributing(graph: Graph, quantity: int | None = None, place: int | None = None) -> Rule:
    """In one product, or wherever one quantity stands; sums that so become sums of sums are made flat."""
    numbers = iter(graph)

    def rule(builder: Builder, operator: Operator) -> int | None:
        number = next(numbers)
        old = graph[number]
        if operator.kind == "combine":
            made = [len(graph.users(n)) == 1 and graph[n].kind != "combine" for n in old.inputs]
            return _flat(builder, operator, made)
        if operator.kind != "product" or place not in (None, number):
            return None
        wanted = [quantity is None or _bare(graph, n) == quantity for n in old.inputs]
        return _distributed(builder, operator, wanted)

    return rule


def _bare(graph: Graph, number: int) -> int:
    return graph[number].inputs[0] if graph[number].kind == "transpose" else number


# ---- products ----------------------------------------------------------------------------------------------------


def _distributed(builder: Builder, operator: Operator, wanted: list[bool]) -> int | None:
    """The weights on the left of another factor go into it, or those on the right of a transposed one."""
    factors, weights = list(operator.inputs), Weights(builder)
    for place in (n for n, factor in enumerate(factors) if wanted[n] and not weights(factor)):
        before, after = _run(factors[:place][::-1], weights)[::-1], _run(factors[place + 1 :], weights)
        inner = _absorbed(builder, one, tuple(before), factors[place]) if before else None
        if inner is not None:
            return product(builder, (*factors[: place - len(before)], inner, *factors[place + 1 :]))
        if after and builder[factors[place]].kind == "transpose":
            turned = tuple(transposed(builder, n) for n in reversed(after))
            inner = _absorbed(builder, one, turned, builder[factors[place]].inputs[0])
            if inner is not None:
                rest = factors[place + 1 + len(after) :]
                return product(builder, (*factors[:place], transposed(builder, inner), *rest))
    return None


def _run(factors: list[int], weights: Weights) -> list[int]:
    return list(takewhile(weights, factors))


def _absorbed(builder: Builder, scale: sympy.Expr, left: tuple[int, ...], number: int) -> int | None:
    """`scale * left * value`, both inside the weights that the value begins with; None where it begins with none."""
    operator = builder[number]
    match operator.kind:
        case "combine":
            return _absorbed_sum(builder, scale, left, number)
        case "family_sum":
            if coefficient_family(scale) or any(builder.type(n).family for n in left):
                return None
            inner = _absorbed(builder, scale, left, operator.inputs[0])
            return None if inner is None else family_sum(builder, inner)
        case "quantity" if not builder.causal or Fixed(builder)(operator.inputs[0]):
            return _absorbed(builder, scale, left, operator.inputs[0])
        case "product":
            return _into_product(builder, scale, left, operator)
    return None


def _absorbed_sum(builder: Builder, scale: sympy.Expr, left: tuple[int, ...], number: int) -> int | None:
    terms = []
    for coefficient, term in terms_of(builder, number):
        outside, inside = _parted(coefficient, builder.tokens)
        part = _absorbed(builder, scale * inside, left, term)
        if part is None:
            return None
        terms.append((outside, part))
    rows = builder.type(left[0]).rows if left else builder.type(number).rows
    return combine(builder, terms, rows, builder.type(number).cols)


def _parted(coefficient: sympy.Expr, tokens: str) -> tuple[sympy.Expr, sympy.Expr]:
    """What of a coefficient stays outside of weights, and what goes in: all but its sign, unless it counts tokens."""
    if any(symbol.name == tokens for symbol in coefficient.free_symbols):
        return coefficient, one
    sign = -one if coefficient.as_coeff_Mul()[0] < 0 else one
    return sign, sign * coefficient


def _into_product(builder: Builder, scale: sympy.Expr, left: tuple[int, ...], operator: Operator) -> int | None:
    if not Weights(builder)(operator.inputs[0]):
        return None
    factors = [*left, *operator.inputs]
    if coefficient_family(scale) not in (None, builder.type(factors[0]).family):
        return None
    factors[0] = _scaled(builder, scale, factors[0])
    if factors[-1] == transposed(builder, ones(builder, builder.tokens)):  # one column, whatever else an order may cost
        return product(builder, (product(builder, factors[:-1]), factors[-1]))
    return product(builder, factors)


def _scaled(builder: Builder, scale: sympy.Expr, number: int) -> int:
    operator = builder[number]
    if scale == 1:
        return number
    if operator.kind == "diagonal":
        return diagonal(builder, combine(builder, [(scale, operator.inputs[0])]))
    return combine(builder, [(scale, number)])


# ---- sums --------------------------------------------------------------------------------------------------------


def _flat(builder: Builder, operator: Operator, made: list[bool]) -> int | None:
    """A sum with the terms of sums that were made in it, and its constant columns `b 1'` as one."""
    terms = operator.terms
    opens = [new and abs(_parted(c, builder.tokens)[0]) == 1 for (c, _), new in zip(terms, made, strict=True)]
    if not any(builder[n].kind == "combine" for (_, n), new in zip(terms, opens, strict=True) if new):
        return None
    opened = []
    for (coefficient, number), new in zip(terms, opens, strict=True):
        inner = terms_of(builder, number) if new else [(one, number)]
        opened += [(coefficient * c, n) for c, n in inner]
    return combine(builder, _joined(builder, opened), operator.type.rows, operator.type.cols)


def _joined(builder: Builder, terms: list[tuple[sympy.Expr, int]]) -> list[tuple[sympy.Expr, int]]:
    """`b 1' + c 1' = (b + c) 1'`."""
    row, weights = transposed(builder, ones(builder, builder.tokens)), Weights(builder)
    kept, columns = [], []
    for coefficient, number in terms:
        factors = builder[number].inputs if builder[number].kind == "product" else ()
        constant = bool(factors) and factors[-1] == row and all(map(weights, factors[:-1]))
        outside, inside = _parted(coefficient, builder.tokens)
        if constant and outside in (one, -one):
            columns.append((outside * inside, product(builder, factors[:-1])))
        else:
            kept.append((coefficient, number))
    if len(columns) < 2 or len({builder.type(n).family for _, n in columns}) > 1:
        return terms
    return [*kept, (one, product(builder, (combine(builder, columns), row)))]


def _scaling(graph: Graph) -> Rule:
    """Coefficients of terms that are read with these alone, into the weights that they begin with."""
    numbers = iter(graph)
    scales = {n: {c for user in graph.users(n) for c in _scales(graph, n, user)} for n in graph}

    def rule(builder: Builder, operator: Operator) -> int | None:
        old = graph[next(numbers)]
        if operator.kind != "combine" or not operator.type.batch:
            return None
        terms = []
        for coefficient, number, source in zip(operator.attributes[0], operator.inputs, old.inputs, strict=True):
            outside, inside = _parted(coefficient, builder.tokens)
            alone = inside != 1 and scales[source] == {inside}
            taken = _absorbed(builder, inside, (), number) if alone else None
            terms.append((coefficient, number) if taken is None else (outside, taken))
        return combine(builder, terms, operator.type.rows, operator.type.cols)

    return rule


def _scales(graph: Graph, number: int, user: int) -> Iterator[sympy.Expr]:
    """What a value is multiplied by where another one reads it."""
    operator = graph[user]
    if operator.kind != "combine":
        yield one
        return
    for coefficient, source in operator.terms:
        if source == number:
            yield _parted(coefficient, graph.tokens)[1]
