"""Causality made explicit: a graph read prefix by prefix becomes one that computes all its columns at once.

Column t is the last column of the value of tokens 1..t. A chain of products is therefore evaluated from the right,
where a sequence of columns stands: `A B' v_t` with A and B cut to t columns is `A` times rows 1..t of `B' V`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import sympy

from crate_dsl.operators.build import ENTRYWISE, combine, factors_of, family_sum, product, terms_of, transposed
from crate_dsl.operators.columns import Fixed
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.rewrite import copied
from crate_dsl.operators.verify import symbols_of

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
    return columns.new.graph(tuple((name, columns.sequence(numbers[n])) for name, n in graph.outputs))


class _Columns:
    """Builds in `new` what values of `old` are for every prefix."""

    def __init__(self, old: Builder, new: Builder) -> None:
        self.old, self.new, self.tokens = old, new, old.tokens
        self.fixed = Fixed(old.__getitem__, old.tokens)
        self._sequences: dict[int, int] = {}

    def copy(self, number: int) -> int:
        operator = self.old[number]
        return self.new.add(replace(operator, inputs=tuple(map(self.copy, operator.inputs))))

    def part(self, number: int) -> str:
        return described(self.old, number)

    # ---- the last column of every prefix ------------------------------------------------------------------------

    def sequence(self, number: int) -> int:
        """All columns of a value; column t is its last one for tokens 1..t."""
        if number not in self._sequences:
            self._sequences[number] = self._sequence(number)
        return self._sequences[number]

    def _sequence(self, number: int) -> int:
        operator = self.old[number]
        if self.fixed(number) and operator.type.cols == self.tokens:
            return self.copy(number)
        self._refuse_count(operator, number)
        match operator.kind:
            case "combine":
                terms = [(c, self.sequence(n)) for c, n in terms_of(self.old, number)]
                return combine(self.new, terms, operator.type.rows, self.tokens)
            case "product":
                *maps, last = operator.inputs
                return reduce(lambda columns, n: self.apply(n, columns), reversed(maps), self.sequence(last))
            case "family_sum":
                return family_sum(self.new, self.sequence(operator.inputs[0]))
            case "prox":
                return self.new.add(replace(operator, inputs=(self.sequence(operator.inputs[0]),)))
            case "function":
                return self._function(operator, number)
            case "attention":
                return self._attention(operator, number)
        raise NoCausalForm(f"{self.part(number)}")

    def _function(self, operator: Operator, number: int) -> int:
        """Entry by entry, or down a column: a column of the value needs that column of its arguments alone."""
        if operator.attributes[0] not in (*ENTRYWISE, "softmax"):
            raise NoCausalForm(self.part(number))
        inputs = [self.sequence(n) for n in operator.inputs]
        if operator.attributes[0] == "softmax" and operator.type.rows == self.tokens:
            inputs = [self._until(n, -sympy.oo) for n in inputs]
        return self.new.add(replace(operator, inputs=tuple(inputs)))

    def _attention(self, operator: Operator, number: int) -> int:
        value, key, query = operator.inputs
        for whole in (value, key):
            if not self.fixed(whole):
                raise NoCausalForm(f"{self.part(whole)}, all columns of which change from prefix to prefix")
        inputs = (self.copy(value), self.copy(key), self.sequence(query))
        return self.new.add(replace(operator, inputs=inputs, attributes=(operator.attributes[0], True)))

    # ---- a matrix of every prefix, times a sequence ---------------------------------------------------------------

    def apply(self, number: int, columns: int) -> int:
        """`A_t x_t` for every t, A a value and x a sequence of columns."""
        operator = self.old[number]
        if self.fixed(number):
            until = self._until(columns, zero) if operator.type.cols == self.tokens else columns
            return product(self.new, (self.copy(number), until), flat=self.new[until].kind == "product")
        self._refuse_count(operator, number)
        match operator.kind:
            case "product":
                return reduce(lambda x, n: self.apply(n, x), reversed(factors_of(self.old, number)), columns)
            case "combine":
                terms = [(c, self.apply(n, columns)) for c, n in terms_of(self.old, number)]
                return combine(self.new, terms, operator.type.rows, self.tokens)
            case "family_sum":
                return family_sum(self.new, self.apply(operator.inputs[0], columns))
            case "transpose" if (turned := transposed(self.old, operator.inputs[0])) != number:
                return self.apply(turned, columns)
        raise NoCausalForm(self.part(number))

    def _until(self, columns: int, otherwise: sympy.Expr) -> int:
        """What has rows 1..t in column t."""
        return self.new.add(Operator("triangle", (columns,), self.new.type(columns), (otherwise,)))

    def _refuse_count(self, operator: Operator, number: int) -> None:
        if any(symbol.name == self.tokens for symbol in symbols_of(operator)):
            raise NoCausalForm(f"{self.part(number)}, where {self.tokens} would grow from token to token")


def described(builder: Builder, number: int) -> str:
    """A value as a formula, for messages."""
    operator = builder[number]
    inputs = [described(builder, n) for n in operator.inputs]
    match operator.kind:
        case "input" | "parameter":
            index = f"[{operator.type.family}]" if operator.type.family else ""
            return f"{operator.attributes[0]}{index}"
        case "transpose":
            return f"{inputs[0]}'" if builder[operator.inputs[0]].inputs == () else f"({inputs[0]})'"
        case "product":
            return " * ".join(inputs)
        case "combine":
            return f"({' + '.join(_scaled(c, x) for c, x in zip(operator.attributes[0], inputs, strict=True))})"
        case "inverse":
            return f"{inputs[0]}^-1"
        case "identity":
            return "I"
        case "ones":
            return f"ones({operator.type.rows})"
        case "attention":
            scores = f"{operator.attributes[0]} * {_bracketed(inputs[1])}' * {inputs[2]}".replace("**", "^")
            return f"{_bracketed(inputs[0])} * softmax({scores})"
        case "function":
            return f"{operator.attributes[0]}({', '.join(inputs)})"
    return f"{operator.kind}({', '.join(inputs)})"


def _bracketed(text: str) -> str:
    return text if text.isidentifier() else f"({text})"


def _scaled(coefficient: sympy.Expr, text: str) -> str:
    return text if coefficient == 1 else f"{str(coefficient).replace('**', '^')} * {text}"
