"""Constructors of operators: types inferred, transposes moved to the leaves, trivial cases left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import sympy

from crate_dsl.errors import CompilerBug
from crate_dsl.language.model import ONE
from crate_dsl.operators.graph import Builder, Operator, Operators, Type, coefficient_family

one = sympy.Integer(1)
ENTRYWISE = {  # functions that commute with transposition
    "exp", "log", "log1p", "root", "reciprocal", "hadamard", "gelu", "gelu_slope", "gelu_potential", "threshold",
    "sigmoid", "softplus",
}  # fmt: skip

Terms = Iterable[tuple[sympy.Expr, int]]


def joined(types: Iterable[Type], rows: str, cols: str, family: str | None = None) -> Type:
    """`rows x cols` with the front axes of all types together."""
    types = list(types)
    families = {t.family for t in types if t.family} | ({family} if family else set())
    if len(families) > 1:
        raise CompilerBug(f"one value with two families: {', '.join(sorted(families))}")
    return Type(rows, cols, next(iter(families), None), any(t.batch for t in types))


def identity(builder: Builder, axis: str) -> int:
    return builder.add(Operator("identity", (), Type(axis, axis)))


def ones(builder: Builder, axis: str) -> int:
    return builder.add(Operator("ones", (), Type(axis, ONE)))


def zero(builder: Builder, rows: str, cols: str) -> int:
    return builder.add(Operator("zero", (), Type(rows, cols)))


def constant(builder: Builder, value: sympy.Expr) -> int:
    return builder.add(Operator("constant", (), Type(ONE, ONE, coefficient_family(value)), (value,)))


def product(builder: Builder, factors: Iterable[int], *, flat: bool = False) -> int:
    """The matrix product, identities left out; `flat` opens factors that are products themselves."""
    kept = list(factors)
    first = kept[0]
    if flat:
        kept = [m for n in kept for m in (builder[n].inputs if builder[n].kind == "product" else (n,))]
    kept = [n for n in kept if builder[n].kind != "identity"]
    if len(kept) < 2:
        return kept[0] if kept else first
    types = [builder.type(n) for n in kept]
    kind = replace(joined(types, types[0].rows, types[-1].cols), diagonal=all(t.diagonal for t in types))
    return builder.add(Operator("product", tuple(kept), kind))


def diagonal(builder: Builder, column: int) -> int:
    """The diagonal matrix of a column."""
    if builder[column].kind == "ones":
        return identity(builder, builder.type(column).rows)
    kind = builder.type(column)
    return builder.add(Operator("diagonal", (column,), replace(kind, cols=kind.rows, diagonal=True)))


def weighted(builder: Builder, scalar: int, number: int) -> int:
    """A 1 x 1 value times a value; among matrices as a multiple of the identity, so that products stay products.

    It stands behind the weights of a product: `U (s X)`.
    """
    if builder.type(number).is_scalar:
        first, second = sympy.symbols("#0 #1", real=True)
        return formula(builder, first * second, ((first, scalar), (second, number)))
    factors = list(factors_of(builder, number))
    place = next((n for n, factor in enumerate(factors) if builder.type(factor).batch), 0)
    kind = builder.type(scalar)
    axis = builder.type(factors[place]).rows
    scaling = builder.add(Operator("diagonal", (scalar,), Type(axis, axis, kind.family, kind.batch, True)))
    return product(builder, [*factors[:place], scaling, *factors[place:]])


def formula(builder: Builder, value: sympy.Expr, parts: Iterable[tuple[sympy.Symbol, int]]) -> int:
    """A number computed from 1 x 1 values, which stand for symbols of an expression."""
    parts = list(parts)
    names = tuple(sympy.Symbol(f"#{n}", **symbol.assumptions0) for n, (symbol, _) in enumerate(parts))
    value = value.xreplace({symbol: name for (symbol, _), name in zip(parts, names, strict=True)})
    if value == names[0]:
        return parts[0][1]
    numbers = tuple(number for _, number in parts)
    family = coefficient_family(value)
    kind = joined(map(builder.type, numbers), ONE, ONE, family)
    return builder.add(Operator("formula", numbers, kind, (value, names)))


def combine(builder: Builder, terms: Terms, rows: str | None = None, cols: str | None = None) -> int:
    """`sum of coefficient * value`; equal values are merged, a single one with coefficient 1 is itself.

    `rows` and `cols` name the axes of the sum where those of its terms may differ (equal in size all the same).
    """
    terms = list(terms)
    merged: dict[int, sympy.Expr] = {}
    for coefficient, number in (_unscaled(builder, *term) for term in terms):
        merged[number] = merged.get(number, sympy.Integer(0)) + coefficient
    kept = {n: c for n, c in merged.items() if c != 0}
    shape = builder.type(terms[0][1]) if terms else Type(rows or ONE, cols or ONE)
    rows, cols = rows or shape.rows, cols or shape.cols
    if not kept:
        return zero(builder, rows, cols)
    if list(kept.values()) == [one]:
        return next(iter(kept))
    families = [f for f in map(coefficient_family, kept.values()) if f]
    kind = joined(map(builder.type, kept), rows, cols, families[0] if families else None)
    return builder.add(Operator("combine", tuple(kept), kind, (tuple(kept.values()),)))


def _unscaled(builder: Builder, coefficient: sympy.Expr, number: int) -> tuple[sympy.Expr, int]:
    """A scaled value gives its coefficient to the sum that it stands in."""
    operator = builder[number]
    if operator.kind == "combine" and len(operator.inputs) == 1:
        return coefficient * operator.attributes[0][0], operator.inputs[0]
    return coefficient, number


def terms_of(builder: Builder, number: int) -> list[tuple[sympy.Expr, int]]:
    """A value as a linear combination."""
    operator = builder[number]
    if operator.kind == "combine":
        return operator.terms
    return [(one, number)]


def factors_of(operators: Operators, number: int) -> tuple[int, ...]:
    """A value as a product."""
    operator = operators[number]
    return operator.inputs if operator.kind == "product" else (number,)


def family_sum(builder: Builder, number: int) -> int:
    kind = builder.type(number)
    return builder.add(Operator("family_sum", (number,), Type(kind.rows, kind.cols, None, kind.batch)))


def family_softmax(builder: Builder, number: int) -> int:
    return builder.add(Operator("family_softmax", (number,), builder.type(number)))


def family_logsumexp(builder: Builder, number: int) -> int:
    """The logarithm of the sum of the exponentials of all members, entry by entry."""
    return builder.add(replace(builder[family_sum(builder, number)], kind="family_logsumexp"))


def inverse(builder: Builder, number: int) -> int:
    return builder.add(Operator("inverse", (number,), replace(builder.type(number).T, diagonal=False)))


def function(builder: Builder, name: str, arguments: tuple[int, ...], parameters: tuple[sympy.Expr, ...] = ()) -> int:
    first = builder.type(arguments[0])
    kind = joined(map(builder.type, arguments), first.rows, first.cols)
    return builder.add(Operator("function", arguments, kind, (name, parameters)))


def reduced(builder: Builder, atom: str, argument: int, parameters: tuple[sympy.Expr, ...] = ()) -> int:
    """A scalar of every matrix, by an atom of the library."""
    kind = builder.type(argument).of(ONE, ONE)
    return builder.add(Operator("reduce", (argument,), kind, (atom, parameters)))


def transposed(builder: Builder, number: int, known: dict[int, int] | None = None) -> int:
    """The transpose, moved through products, sums and entry-wise functions down to the leaves.

    A shared value that stands transposed as a whole already keeps doing so. Who transposes many values of one graph
    hands in what is `known` of it: parts that they have in common are then gone through once.
    """
    known = {} if known is None else known
    if number not in known:
        known[number] = _transposed(builder, number, known)
    return known[number]


def _transposed(builder: Builder, number: int, known: dict[int, int]) -> int:
    operator = builder[number]
    if operator.type.diagonal:
        return number
    whole = Operator("transpose", (number,), operator.type.T)
    if whole in builder:
        return builder.add(whole)
    match operator.kind:
        case "transpose":
            return operator.inputs[0]
        case "product":
            return product(builder, [transposed(builder, n, known) for n in reversed(operator.inputs)])
        case "combine":
            flipped = [(c, transposed(builder, n, known)) for c, n in terms_of(builder, number)]
            return combine(builder, flipped, operator.type.cols, operator.type.rows)
        case "inverse":
            return inverse(builder, transposed(builder, operator.inputs[0], known))
        case "family_sum":
            return family_sum(builder, transposed(builder, operator.inputs[0], known))
        case "family_softmax":
            return family_softmax(builder, transposed(builder, operator.inputs[0], known))
        case "family_logsumexp":
            return family_logsumexp(builder, transposed(builder, operator.inputs[0], known))
        case "zero":
            return zero(builder, operator.type.cols, operator.type.rows)
        case "function" if operator.attributes[0] in ENTRYWISE:
            arguments = tuple(transposed(builder, n, known) for n in operator.inputs)
            return function(builder, *operator.attributes[:1], arguments, operator.attributes[1])
    if operator.kind == "identity" or operator.type.is_scalar:
        return number
    return builder.add(whole)
