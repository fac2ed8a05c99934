"""Every atom that claims a gradient is checked against finite differences, by walking the registry."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from crate_dsl.errors import CrateError
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Leaf
from crate_dsl.library.tree import Apply, Matrix, Scalar, SumOver, Tree
from crate_dsl.mathematics.differentiate import gradient
from crate_dsl.mathematics.evaluate import Point, form_value, tree_value

SIZES = {"m": 3, "n": 4, "K": 2, "p": 5}
X = Leaf("X", "m", "n")
RNG = np.random.default_rng(0)
POINT = Point(
    SIZES,
    {"a": 0.7},
    {"X": RNG.random((3, 4)) + 0.5, "Y": RNG.standard_normal((3, 4)), "U": RNG.standard_normal((2, 3, 5))},
)


def product(left: Tree, right: Tree) -> Tree:
    return Apply("times", (left, right), (left.shape[0], right.shape[1]))


def gram(index: str | None = None) -> Tree:
    """A well-conditioned square matrix that depends on X: `I + a X X'`, or `I + (U[k]'X)(U[k]'X)'`."""
    inner = product(Matrix(Leaf("U", "m", "p", index).T), Matrix(X)) if index else Matrix(X)
    outer = product(inner, Apply("transpose", (inner,), inner.shape[::-1]))
    scaled = Apply("scale", (Scalar(sympy.Symbol("a", positive=True)), outer), outer.shape)
    return Apply("plus", (Apply("I", (), outer.shape), scaled), outer.shape)


def energy_with(atom: str) -> Tree:
    """A scalar energy in which the atom acts on something that depends on X."""
    scalar = ("1", "1")
    match atom:
        case "logdet" | "trace":
            return Apply(atom, (gram(),), scalar)
        case "transpose":
            return Apply("norm2", (Apply(atom, (Matrix(X),), ("n", "m")),), scalar)
        case "times":
            return Apply("norm2", (product(Matrix(X), Apply("transpose", (Matrix(X),), ("n", "m"))),), scalar)
        case "plus" | "minus" | "hadamard":
            inner = Apply(
                atom, (Apply("hadamard", (Matrix(X), Matrix(X)), X.shape), Matrix(Leaf("Y", "m", "n"))), X.shape
            )
            return Apply("norm2", (inner,), scalar)
        case "add_column":
            column = Apply("row_sums", (Apply("hadamard", (Matrix(X), Matrix(X)), X.shape),), ("m", "1"))
            return Apply("norm2", (Apply(atom, (Matrix(X), column), X.shape),), scalar)
        case "diag":
            column = Apply("row_sums", (Apply("hadamard", (Matrix(X), Matrix(X)), X.shape),), ("m", "1"))
            whole = Apply("plus", (gram(), Apply(atom, (column,), ("m", "m"))), ("m", "m"))
            return Apply("plus", (Apply("logdet", (whole,), scalar), Apply("norm2", (whole,), scalar)), scalar)
        case "column_sums" | "column_norms":
            return Apply("norm2", (Apply("exp", (Apply(atom, (Matrix(X),), ("1", "n")),), ("1", "n")),), scalar)
        case "row_sums":
            return Apply("norm2", (Apply(atom, (Apply("exp", (Matrix(X),), X.shape),), ("m", "1")),), scalar)
        case "exp" | "log" | "reciprocal" | "log1p" | "gelu" | "gelu_potential" | "softplus" | "sigmoid":
            return Apply("norm2", (Apply(atom, (Matrix(X),), X.shape),), scalar)
        case _:
            return Apply(atom, (Apply("hadamard", (Matrix(X), Matrix(X)), X.shape),), scalar)


def directional(tree: Tree, direction: np.ndarray) -> float:
    """Central differences, extrapolated to the fourth order."""

    def at(h: float) -> float:
        return float(tree_value(tree, POINT.with_matrix("X", POINT.matrices["X"] + h * direction)))

    slopes = [(at(h) - at(-h)) / (2 * h) for h in (2e-3, 1e-3)]
    return (4 * slopes[1] - slopes[0]) / 3


def check(tree: Tree) -> None:
    derived = form_value(gradient(tree, X), POINT)
    for _ in range(3):
        direction = RNG.standard_normal((3, 4))
        numeric = directional(tree, direction)
        assert abs(numeric - (derived * direction).sum()) < 1e-8 * max(1, abs(numeric))


@pytest.mark.parametrize("atom", sorted(name for name, atom in ATOMS.items() if atom.smooth))
def test_gradient_of_every_atom(atom: str) -> None:
    check(energy_with(atom))


def test_gradient_of_a_family_sum() -> None:
    check(SumOver("k", "K", Apply("logdet", (gram("k"),), ("1", "1"))))


def test_family_sum_inside_an_atom() -> None:
    """The adjoint of what is read inside a sum must be summed over the family."""
    body = product(Matrix(Leaf("U", "m", "p", "k").T), Matrix(X))
    square = product(Apply("transpose", (body,), body.shape[::-1]), body)
    inner = Apply("plus", (Apply("I", (), square.shape), SumOver("k", "K", square)), square.shape)
    check(Apply("logdet", (inner,), ("1", "1")))


def test_no_rule_is_loud() -> None:
    with pytest.raises(CrateError, match="no derivative"):
        gradient(Apply("l1", (Matrix(X),), ("1", "1")), X)


def test_held_matrices_need_no_rule() -> None:
    held = Apply("l1", (Matrix(Leaf("Y", "m", "n")),), ("1", "1"))
    whole = Apply("plus", (held, Apply("norm2", (Matrix(X),), ("1", "1"))), ("1", "1"))
    check(whole)


def test_a_wrong_rule_is_caught() -> None:
    """The finite differences can fail: a gradient off by a factor of two does not pass."""
    tree = Apply("norm2", (Matrix(X),), ("1", "1"))
    half = form_value(gradient(tree, X).scaled(sympy.Rational(1, 2)), POINT)
    direction = np.ones((3, 4))
    assert abs(directional(tree, direction) - (half * direction).sum()) > 1
