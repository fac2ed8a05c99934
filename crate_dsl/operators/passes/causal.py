"""Causality made explicit: a graph read prefix by prefix becomes one that computes all its columns at once.

Column t is the last column of the value of tokens 1..t. A chain of products is therefore evaluated from the right,
where a sequence of columns stands: `A B' v_t` with A and B cut to t columns is `A` times rows 1..t of `B' V`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import reduce

import sympy

from crate_dsl.language.model import ONE
from crate_dsl.operators.build import (
    ENTRYWISE,
    combine,
    diagonal,
    factors_of,
    family_sum,
    function,
    joined,
    ones,
    product,
    terms_of,
    transposed,
)
from crate_dsl.operators.columns import Fixed, counts_tokens
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.formula import described
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.passes.identity_plus import identity_plus
from crate_dsl.operators.passes.running_sums import with_running_sums
from crate_dsl.operators.rewrite import copied
from crate_dsl.operators.signs import is_definite

zero = sympy.Integer(0)


class NoCausalForm(Exception):
    """Raised for a part of an expression for which no rule gives all prefixes at once; the message names it.

    `quantities` names those that the part belongs to, the innermost first.
    """

    quantities: tuple[str, ...] = ()


@contextmanager
def _within(quantity: Operator) -> Iterator[None]:
    """What has no causal form in here belongs to this quantity."""
    try:
        yield
    except NoCausalForm as found:
        found.quantities += (str(quantity.attributes[0]),)
        raise


def causal(graph: Graph, workload: Workload) -> Graph:
    """An ordinary graph with the same columns.

    Raises:
        NoCausalForm: with the part that has none.
    """
    if not graph.causal:
        return graph
    old, numbers = copied(graph)
    columns = _Columns(old, Builder(graph.name, graph.sizes, graph.tokens))
    outputs = tuple((name, columns.sequence(numbers[n])) for name, n in graph.outputs)
    return with_running_sums(columns.new.graph(outputs), workload)


class _Columns:
    """Builds in `new` what values of `old` are for every prefix."""

    def __init__(self, old: Builder, new: Builder) -> None:
        self.old, self.new, self.tokens = old, new, old.tokens
        self.fixed = Fixed(old, held=True)
        self._sequences: dict[int, int] = {}

    def copy(self, number: int) -> int:
        """A value that no prefix changes; what a quantity holds for token t is computed from tokens 1..t."""
        operator = self.old[number]
        if operator.kind != "quantity" or self.fixed(operator.inputs[0]):
            return self.new.add(replace(operator, inputs=tuple(map(self.copy, operator.inputs))))
        with _within(operator):
            if operator.type.cols == self.tokens:
                return self.new.add(replace(operator, inputs=(self.sequence(operator.inputs[0]),)))
            columns = self.sequence(transposed(self.old, operator.inputs[0]))
        return self.new.add(replace(operator, inputs=(transposed(self.new, columns),)))

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
        rule = getattr(self, f"_{operator.kind}", None)
        found = rule(operator) if rule else None
        if found is None:
            raise self.refused(number)
        return found

    def _repeated(self, number: int) -> int:
        """What no prefix changes: its columns, or its one column for every token."""
        kind, copy = self.old.type(number), self.copy(number)
        if kind.cols == self.tokens:
            return copy
        if kind.cols != ONE:
            raise self.refused(number, ", where one column for every token should stand")
        return product(self.new, (copy, self._row_of_ones()))

    def _row_of_ones(self) -> int:
        return transposed(self.new, ones(self.new, self.tokens))

    def _combine(self, operator: Operator) -> int:
        return self._added(((c, self.sequence(n)) for c, n in operator.terms), operator.type.rows)

    def _product(self, operator: Operator) -> int:
        *maps, last = operator.inputs
        return reduce(lambda columns, n: self.apply(n, columns), reversed(maps), self.sequence(last))

    def _family_sum(self, operator: Operator) -> int:
        return family_sum(self.new, self.sequence(operator.inputs[0]))

    def _transpose(self, operator: Operator) -> int | None:
        turned = self._turned(operator.inputs[0])
        return self.sequence(turned) if self.old[turned].kind != "transpose" else None

    def _attention(self, operator: Operator) -> int:
        value, key, query = operator.inputs
        for whole in (value, key):
            if not self.fixed(whole):
                raise self.refused(whole, ", all columns of which change from prefix to prefix")
        scale, columns = self._counted(operator.attributes[0], self.sequence(query))
        inputs = (self.copy(value), self.copy(key), columns)
        return self.new.add(replace(operator, inputs=inputs, attributes=(scale, True)))

    def _constant(self, operator: Operator) -> int:
        """A number that counts the tokens."""
        return self._added([(operator.attributes[0], self._row_of_ones())], ONE)

    # ---- entry by entry, and down a column ------------------------------------------------------------------------

    def _of_columns(self, operator: Operator) -> int | None:
        """The same operator on the sequences of its inputs, where a column of it needs no other columns."""
        if counts_tokens(operator, self.tokens):
            return None
        inputs = tuple(map(self.sequence, operator.inputs))
        return self.new.add(replace(operator, inputs=inputs, type=operator.type.of(operator.type.rows, self.tokens)))

    _prox = _family_softmax = _family_logsumexp = _of_columns

    def _quantity(self, operator: Operator) -> int | None:
        with _within(operator):
            return self._of_columns(operator)

    def _function(self, operator: Operator) -> int | None:
        name, kind = operator.attributes[0], operator.type
        if name in ENTRYWISE or (name == "softmax" and kind.rows != self.tokens):
            return self._of_columns(operator)
        if name == "softmax":
            until = self._until(self.sequence(operator.inputs[0]), -sympy.oo)
            return self.new.add(replace(operator, inputs=(until,)))
        if name == "unit_rows" and self.fixed(operator.inputs[0]) and kind.cols == self.tokens:
            return self.new.add(Operator("prefix_unit_rows", (self.copy(operator.inputs[0]),), kind))
        return None

    def _lines(self, operator: Operator) -> int | None:
        """Sums over features need their column alone; sums over tokens are running sums."""
        (source,), name = operator.inputs, operator.attributes[0]
        if name == "row_sums":
            return self._running(source)
        return self._of_columns(operator) if self.old.type(source).rows != self.tokens else None

    def _reduce(self, operator: Operator) -> int | None:
        """The sum of all entries up to now."""
        source = operator.inputs[0]
        if operator.attributes[0] == "norm2":
            source = function(self.old, "hadamard", (source, source))
        elif operator.attributes[0] != "total":
            return None
        if self.old.type(source).rows == self.tokens:
            source = transposed(self.old, source)
        rows = self._running(source)
        if rows is None or self.new.type(rows).rows == ONE:
            return rows
        return self._column_sums(rows)

    def _running(self, source: int) -> int | None:
        if not self.fixed(source) or self.old.type(source).cols != self.tokens:
            return None
        columns = self.copy(source)
        inputs = (columns, ones(self.new, self.tokens))
        return self.new.add(Operator("cumulative", inputs, self.new.type(columns)))

    def _formula(self, operator: Operator) -> int:
        """A number of every prefix; the number of tokens in it as a factor that grows."""
        value, names = operator.attributes
        own = [symbol for symbol in value.free_symbols if symbol.name == self.tokens]
        rest, growing = value.as_independent(*own, as_Add=False) if own else (value, sympy.Integer(1))
        if any(name in growing.free_symbols for name in names):
            numbers = zip(names, (described(self.old, n) for n in operator.inputs), strict=True)
            shown = value.xreplace({name: sympy.Symbol(text) for name, text in numbers})
            raise NoCausalForm(f"{shown}, where {self.tokens} grows among other numbers")
        inputs = tuple(self.copy(n) if self.fixed(n) else self.sequence(n) for n in operator.inputs)
        kind = operator.type.of(ONE, self.tokens)
        number = self.new.add(Operator("formula", inputs, kind, (rest, names)))
        return number if growing == 1 else self.new.add(Operator("counted", (number,), kind, (growing,)))

    def _diagonal(self, operator: Operator) -> int:
        """Column t has the last number of prefix t, or the only one, in row t."""
        row = self.sequence(transposed(self.old, operator.inputs[0]))
        return diagonal(self.new, transposed(self.new, row))

    # ---- a matrix of every prefix, times a sequence ---------------------------------------------------------------

    def apply(self, number: int, columns: int) -> int:
        """`A_t x_t` for every t, A a value and x a sequence of columns."""
        operator = self.old[number]
        if self.fixed(number):
            mixes = operator.type.cols == self.tokens and not operator.type.diagonal
            until = self._until(columns, zero) if mixes else columns
            return product(self.new, (self.copy(number), *factors_of(self.new, until)))
        match operator.kind:
            case "product":
                return reduce(lambda x, n: self.apply(n, x), reversed(operator.inputs), columns)
            case "combine":
                terms = ((c, self.apply(n, columns)) for c, n in terms_of(self.old, number))
                return self._added(terms, operator.type.rows)
            case "family_sum":
                return family_sum(self.new, self.apply(operator.inputs[0], columns))
            case "inverse":
                return self._solved(number, columns)
            case "quantity":
                with _within(operator):
                    return self.apply(operator.inputs[0], columns)
            case "diagonal":
                return self._scaled(operator.inputs[0], columns)
            case "transpose" if self.old[turned := self._turned(operator.inputs[0])].kind != "transpose":
                return self.apply(turned, columns)
        if operator.type.cols == ONE:
            return self._by_row(columns, self.sequence(number))
        if operator.type.rows == ONE and operator.type.cols != self.tokens:
            return self._inner(self.sequence(transposed(self.old, number)), columns)
        raise self.refused(number)

    def _inner(self, left: int, right: int) -> int:
        """The inner products of columns with columns, a row."""
        return self._column_sums(function(self.new, "hadamard", (left, right)))

    def _column_sums(self, columns: int) -> int:
        kind = self.new.type(columns).of(ONE, self.tokens)
        return self.new.add(Operator("lines", (columns,), kind, ("column_sums",)))

    def _scaled(self, column: int, columns: int) -> int:
        """`Diag(v_t) x_t`: entry by entry, or a number for the whole column."""
        values = self.sequence(column)
        if self.old.type(column).is_scalar:
            return self._by_row(values, columns)
        return function(self.new, "hadamard", (values, columns))

    def _by_row(self, row: int, columns: int) -> int:
        """Every column times its entry of a row."""
        if row == self._row_of_ones():
            return columns
        return product(self.new, (*factors_of(self.new, columns), diagonal(self.new, transposed(self.new, row))))

    def _solved(self, number: int, columns: int) -> int:
        """`(c I + s A B')^-1` of every prefix, A and B having tokens as columns; a number of every prefix scales it."""
        matrix = self.old[number].inputs[0]
        for split in identity_plus(self.old, matrix):
            rows, left = self._without_numbers(split.left)
            more, right = self._without_numbers(split.right)
            if not left or not right or self.old.type(left[-1]).cols != self.tokens:
                continue
            a, b = product(self.old, left), transposed(self.old, product(self.old, right))
            if self.fixed(a) and self.fixed(b):
                inputs = (self.copy(a), self.copy(b), columns, *self._multiplied([*rows, *more]))
                kinds = [self.new.type(n) for n in inputs]
                counts = counts_tokens(self.old[matrix], self.tokens)
                definite = a == b and len(inputs) == 3 and not counts and is_definite(self.old, matrix)
                kind = joined(kinds, kinds[0].rows, self.tokens)
                return self.new.add(Operator("prefix_solve", inputs, kind, ((split.shift, split.scale), definite)))
        raise self.refused(number)

    def _without_numbers(self, factors: tuple[int, ...]) -> tuple[list[int], list[int]]:
        """Rows with a number for every prefix, taken out of a product, and what stays of it."""
        held = [n for n in factors if self.old[n].kind == "diagonal" and not self.fixed(n)]
        numbers = [self.old[n].inputs[0] for n in held if self.old.type(self.old[n].inputs[0]).is_scalar]
        return [self.sequence(n) for n in numbers], [n for n in factors if n not in held]

    def _multiplied(self, rows: list[int]) -> tuple[int, ...]:
        return (reduce(lambda a, b: function(self.new, "hadamard", (a, b)), rows),) if rows else ()

    # ---- parts ----------------------------------------------------------------------------------------------------

    def _added(self, terms: Iterable[tuple[sympy.Expr, int]], rows: str) -> int:
        """A sum; a coefficient that counts the tokens is another one in every column."""
        return combine(self.new, [self._counted(c, n) for c, n in terms], rows, self.tokens)

    def _counted(self, coefficient: sympy.Expr, columns: int) -> tuple[sympy.Expr, int]:
        own = [symbol for symbol in coefficient.free_symbols if symbol.name == self.tokens]
        if not own:
            return coefficient, columns
        rest, growing = coefficient.as_independent(*own, as_Add=False)
        return rest, self.new.add(Operator("counted", (columns,), self.new.type(columns), (growing,)))

    def _turned(self, number: int) -> int:
        """The transpose of a value moved to the leaves, also that of a product which is shared as a whole."""
        inner = self.old[number]
        if inner.kind == "product":
            return product(self.old, [transposed(self.old, n) for n in reversed(inner.inputs)])
        return transposed(self.old, number)

    def _until(self, columns: int, otherwise: sympy.Expr) -> int:
        """What has rows 1..t in column t; a diagonal matrix has no others."""
        if self.new.type(columns).diagonal:
            return columns
        return self.new.add(Operator("triangle", (columns,), self.new.type(columns), (otherwise,)))
