"""Causality made explicit: a graph read prefix by prefix becomes one that computes all its columns at once.

Column t is the last column of the value of tokens 1..t. A chain of products is therefore evaluated from the right,
where a sequence of columns stands: `A B' v_t` with A and B cut to t columns is `A` times rows 1..t of `B' V`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import reduce

import sympy

from crate_dsl.language.model import ONE
from crate_dsl.operators.build import (
    ENTRYWISE,
    combine,
    factors_of,
    family_sum,
    joined,
    ones,
    product,
    terms_of,
    transposed,
)
from crate_dsl.operators.columns import Fixed, counts_tokens
from crate_dsl.operators.formula import described
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes.identity_plus import identity_plus
from crate_dsl.operators.passes.running_sums import with_running_sums
from crate_dsl.operators.rewrite import copied
from crate_dsl.operators.signs import is_definite

zero = sympy.Integer(0)


class NoCausalForm(Exception):
    """Raised for a part of an expression for which no rule gives all prefixes at once; the message names it."""


def causal(graph: Graph, batch: int) -> Graph:
    """An ordinary graph with the same columns.

    Raises:
        NoCausalForm: with the part that has none.
    """
    if not graph.causal:
        return graph
    old, numbers = copied(graph)
    columns = _Columns(old, Builder(graph.name, graph.sizes, graph.tokens))
    outputs = tuple((name, columns.sequence(numbers[n])) for name, n in graph.outputs)
    return with_running_sums(columns.new.graph(outputs), batch)


class _Columns:
    """Builds in `new` what values of `old` are for every prefix."""

    def __init__(self, old: Builder, new: Builder) -> None:
        self.old, self.new, self.tokens = old, new, old.tokens
        self.fixed = Fixed(old.__getitem__, old.tokens)
        self._sequences: dict[int, int] = {}

    def copy(self, number: int) -> int:
        operator = self.old[number]
        return self.new.add(replace(operator, inputs=tuple(map(self.copy, operator.inputs))))

    def refused(self, number: int, why: str = "") -> NoCausalForm:
        return NoCausalForm(described(self.old, number) + why)

    # ---- the last column of every prefix ------------------------------------------------------------------------

    def sequence(self, number: int) -> int:
        """All columns of a value; column t is its last one for tokens 1..t."""
        if number not in self._sequences:
            self._sequences[number] = self._sequence(number)
        return self._sequences[number]

    def _sequence(self, number: int) -> int:
        operator = self.old[number]
        if self.fixed(number):
            return self._repeated(number)
        match operator.kind:
            case "combine":
                terms = ((c, self.sequence(n)) for c, n in terms_of(self.old, number))
                return self._combined(terms, operator.type.rows)
            case "product":
                *maps, last = operator.inputs
                return reduce(lambda columns, n: self.apply(n, columns), reversed(maps), self.sequence(last))
            case "family_sum":
                return family_sum(self.new, self.sequence(operator.inputs[0]))
            case "function" | "prox" if not counts_tokens(operator, self.tokens):
                return self._entrywise(operator, number)
            case "attention":
                return self._attention(operator)
            case "transpose" if (turned := self._turned(number)) != number:
                return self.sequence(turned)
        raise self.refused(number)

    def _repeated(self, number: int) -> int:
        """What no prefix changes: its columns, or its one column for every token."""
        kind, copy = self.old.type(number), self.copy(number)
        if kind.cols == self.tokens:
            return copy
        if kind.cols != ONE:
            raise self.refused(number, ", where one column for every token should stand")
        return product(self.new, (copy, transposed(self.new, ones(self.new, self.tokens))))

    def _combined(self, terms: Iterable[tuple[sympy.Expr, int]], rows: str) -> int:
        """A sum; a coefficient that counts the tokens is another one in every column."""
        counted = [self._counted(c, n) for c, n in terms]
        return combine(self.new, counted, rows, self.tokens)

    def _counted(self, coefficient: sympy.Expr, columns: int) -> tuple[sympy.Expr, int]:
        own = [symbol for symbol in coefficient.free_symbols if symbol.name == self.tokens]
        if not own:
            return coefficient, columns
        rest, growing = coefficient.as_independent(*own, as_Add=False)
        return rest, self.new.add(Operator("counted", (columns,), self.new.type(columns), (growing,)))

    def _entrywise(self, operator: Operator, number: int) -> int:
        """Entry by entry, or down a column: a column of the value needs that column of its arguments alone."""
        if operator.kind == "function" and operator.attributes[0] not in (*ENTRYWISE, "softmax"):
            raise self.refused(number)
        inputs = [self.sequence(n) for n in operator.inputs]
        if operator.attributes[0] == "softmax" and operator.type.rows == self.tokens:
            inputs = [self._until(n, -sympy.oo) for n in inputs]
        kind = operator.type.of(operator.type.rows, self.tokens)
        return self.new.add(replace(operator, inputs=tuple(inputs), type=kind))

    def _attention(self, operator: Operator) -> int:
        value, key, query = operator.inputs
        for whole in (value, key):
            if not self.fixed(whole):
                raise self.refused(whole, ", all columns of which change from prefix to prefix")
        scale, columns = self._counted(operator.attributes[0], self.sequence(query))
        inputs = (self.copy(value), self.copy(key), columns)
        return self.new.add(replace(operator, inputs=inputs, attributes=(scale, True)))

    # ---- a matrix of every prefix, times a sequence ---------------------------------------------------------------

    def apply(self, number: int, columns: int) -> int:
        """`A_t x_t` for every t, A a value and x a sequence of columns."""
        operator = self.old[number]
        if self.fixed(number):
            until = self._until(columns, zero) if operator.type.cols == self.tokens else columns
            return product(self.new, (self.copy(number), *factors_of(self.new, until)))
        match operator.kind:
            case "product":
                return reduce(lambda x, n: self.apply(n, x), reversed(operator.inputs), columns)
            case "combine":
                terms = ((c, self.apply(n, columns)) for c, n in terms_of(self.old, number))
                return self._combined(terms, operator.type.rows)
            case "family_sum":
                return family_sum(self.new, self.apply(operator.inputs[0], columns))
            case "inverse":
                return self._solved(number, columns)
            case "transpose" if (turned := self._turned(number)) != number:
                return self.apply(turned, columns)
        raise self.refused(number)

    def _solved(self, number: int, columns: int) -> int:
        """`(c I + s A B')^-1` of every prefix, A and B having tokens as columns."""
        matrix = self.old[number].inputs[0]
        for split in identity_plus(self.old, matrix):
            left, right = product(self.old, split.left), transposed(self.old, product(self.old, split.right))
            if self.old.type(left).cols == self.tokens and self.fixed(left) and self.fixed(right):
                inputs = (self.copy(left), self.copy(right), columns)
                kinds = [self.new.type(n) for n in inputs]
                counts = any(counts_tokens(self.old[n], self.tokens) for n in (matrix, *split.left, *split.right))
                definite = left == right and not counts and is_definite(self.old, matrix)
                kind = joined(kinds, kinds[0].rows, self.tokens)
                return self.new.add(Operator("prefix_solve", inputs, kind, ((split.shift, split.scale), definite)))
        raise self.refused(number)

    def _turned(self, number: int) -> int:
        """A transpose moved to the leaves, also that of a product which is shared as a whole."""
        inner = self.old[self.old[number].inputs[0]]
        if inner.kind == "product":
            return product(self.old, [transposed(self.old, n) for n in reversed(inner.inputs)])
        return transposed(self.old, self.old[number].inputs[0])

    def _until(self, columns: int, otherwise: sympy.Expr) -> int:
        """What has rows 1..t in column t."""
        return self.new.add(Operator("triangle", (columns,), self.new.type(columns), (otherwise,)))
