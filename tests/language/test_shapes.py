"""Shapes of expressions, one rule per operator."""

from __future__ import annotations

import pytest

from crate_dsl.errors import CrateError, Source
from crate_dsl.language.model import SCALAR, Shape
from crate_dsl.language.parse import parse
from crate_dsl.language.shapes import IDENTITY, Environment, Shapes
from crate_dsl.library.vocabulary import VOCABULARY

NAMES = Environment(
    {
        "Z": Shape("d", "N"),
        "D": Shape("d", "d"),
        "U": Shape("d", "p", "K"),
        "v": Shape("d", "1"),
        "s": SCALAR,
        "K": SCALAR,
    },
    families=frozenset({"K"}),
)


def shape(text: str) -> Shape:
    body = parse(Source("t", f"network T\nenergy f(Z: d x N) = {text}")).items[0].body
    shapes = Shapes(VOCABULARY)
    found = shapes.of(body, NAMES)
    if found is None or shapes.diagnostics:
        raise CrateError(*shapes.diagnostics)
    return found


RIGHT = {
    "s * Z / 2": Shape("d", "N"),
    "Z' * D": Shape("N", "d"),
    "v' * v": SCALAR,
    "I": IDENTITY,
    "I + Z' * Z": Shape("N", "N"),
    "s * I - D": Shape("d", "d"),
    "I * Z": Shape("d", "N"),
    "D * I": Shape("d", "d"),
    "logdet(I + Z' * Z)": SCALAR,
    "sum(k in K) U[k] * U[k]'": Shape("d", "d"),
    "Z .* Z ./ Z": Shape("d", "N"),
    "exp(-Z) .^ 2": Shape("d", "N"),
    "exp(s) ^ 2 + sqrt(K)": SCALAR,
    "box(Z, -1, s)": SCALAR,
    "2 ^ s": SCALAR,
}
WRONG = {
    "Z * D": "N is not d",
    "Z + D": "cannot add",
    "Z + 1": "between a number and a matrix",
    "I + s": "between a number and a matrix",
    "I + Z": "I is square",
    "Z / Z": "cannot divide by a matrix",
    "Z ^ 2": "cannot raise a matrix",
    "2 ^ Z": "an exponent is a number",
    "Z .* 2": "with a number write",
    "I .* D": "between I and D",
    "logdet(Z)": "square",
    "logdet(I)": "the size of this I",
    "box(Z, Z, 1)": "a bound is a scalar",
    "norm2(s)": "takes a matrix",
    "sqrt(Z)": "sqrt takes a number",
    "s'": "a number has no transpose",
    "U": "needs an index",
    "Z[k]": "has no index",
    "U[j]": "no sum binds",
    "sum(s in K) s": "has a meaning already",
    "l1": "is a function",
    "D(2)": "is not a function",
    "inverse(D)": "differentiation",
}


@pytest.mark.parametrize("text", RIGHT)
def test_shape(text: str) -> None:
    assert shape(text) == RIGHT[text]


@pytest.mark.parametrize("text", WRONG)
def test_clash(text: str) -> None:
    with pytest.raises(CrateError, match=WRONG[text]):
        shape(text)


def test_one_mistake_is_reported_once() -> None:
    with pytest.raises(CrateError) as caught:
        shape("norm2(D * (Z + missing)) + l1(Z * other)")
    assert len(caught.value.diagnostics) == 2
