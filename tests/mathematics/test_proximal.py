"""Proximal operators fall out of their scalar problem: compared with brute force and with the textbook's formulas."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from crate_dsl.errors import CrateError
from crate_dsl.library.atoms import ATOMS, Separable
from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.mathematics.evaluate import Point, prox_value
from crate_dsl.mathematics.proximal import add, derive_prox, undecided

eta, lam, mu = (sympy.Symbol(name, positive=True) for name in ("eta", "lambda", "mu"))
one = sympy.Integer(1)
POINT = Point({}, {"eta": 0.4, "lambda": 0.9, "mu": 1.3}, {})


def entry(name: str, *scalars: sympy.Expr) -> Separable:
    return ATOMS[name].entry(*scalars)


NUMBERS = {eta: 0.4, lam: 0.9, mu: 1.3}
PENALTIES: dict[str, tuple[list[tuple[sympy.Expr, Separable]], object]] = {
    "l1": ([(lam, entry("l1"))], lambda z: 0.9 * abs(z)),
    "l1 + nonnegative": (
        [(lam, entry("l1")), (one, entry("nonnegative"))],
        lambda z: np.where(z < 0, np.inf, 0.9 * z),
    ),
    "squared": ([(mu / 2, entry("norm2"))], lambda z: 0.65 * z**2),
    "box": ([(one, entry("box", -one, mu))], lambda z: np.where((z < -1) | (z > 1.3), np.inf, 0)),
    "l0": ([(lam, entry("l0"))], lambda z: 0.9 * (z != 0)),
    "l0 + nonnegative": (
        [(lam, entry("l0")), (one, entry("nonnegative"))],
        lambda z: np.where(z < 0, np.inf, 0.9 * (z != 0)),
    ),
    "elastic net": ([(lam, entry("l1")), (mu / 2, entry("norm2"))], lambda z: 0.9 * abs(z) + 0.65 * z**2),
    "l1 + box": (
        [(lam, entry("l1")), (one, entry("box", sympy.Integer(0), one))],
        lambda z: np.where((z < 0) | (z > 1), np.inf, 0.9 * z),
    ),
}  # fmt: skip


def gap(prox: Prox, g: object) -> float:
    """How much better the best point of a fine grid is than the proximal map, at worst."""
    grid = np.unique(np.concatenate([np.linspace(-5, 5, 20001), [0.0, 1.0, -1.0, 1.3]]))
    worst = 0.0
    for v in np.linspace(-3, 3, 61):
        best = (0.5 * (grid - v) ** 2 + 0.4 * g(grid)).min()
        z = prox_value(prox, np.array([v]), POINT)
        worst = max(worst, float((0.5 * (z - v) ** 2 + 0.4 * g(z))[0] - best))
    return worst


@pytest.mark.parametrize("name", PENALTIES)
def test_against_brute_force(name: str) -> None:
    terms, g = PENALTIES[name]
    assert gap(derive_prox(add(terms), eta), g) < 1e-10


def test_brute_force_catches_a_wrong_map() -> None:
    wrong = Prox((Piece(-sympy.oo, sympy.oo, one, sympy.Integer(0)),))
    assert gap(wrong, PENALTIES["l1"][1]) > 1e-2


def test_relu_with_threshold_falls_out_of_l1_and_nonnegative() -> None:
    prox = derive_prox(add(PENALTIES["l1 + nonnegative"][0]), eta)
    v = np.linspace(-3, 3, 101)
    assert np.allclose(prox_value(prox, v, POINT), np.maximum(v - 0.36, 0), atol=1e-15)
    assert [(p.slope, p.intercept) for p in prox.pieces] == [(0, 0), (1, -eta * lam)]


def test_soft_threshold_falls_out_of_l1() -> None:
    prox = derive_prox(add(PENALTIES["l1"][0]), eta)
    v = np.linspace(-3, 3, 101)
    assert np.allclose(prox_value(prox, v, POINT), np.sign(v) * np.maximum(abs(v) - 0.36, 0), atol=1e-15)


def test_continuity_is_known() -> None:
    assert derive_prox(add(PENALTIES["l1"][0]), eta).continuous
    assert not derive_prox(add(PENALTIES["l0"][0]), eta).continuous


def test_concave_penalty_is_refused() -> None:
    with pytest.raises(CrateError, match="no proximal rule"):
        derive_prox(add([(-lam, entry("l1"))]), eta)


def test_a_kink_that_may_lie_within_the_bounds_or_outside_is_found() -> None:
    l1, tau = entry("l1"), sympy.Symbol("tau", real=True)
    assert undecided([l1, entry("box", tau, one)]) == (tau, 0)
    assert undecided([l1, entry("box", -one, mu - lam)]) == (mu - lam, 0)
    assert undecided([l1, entry("box", -mu, lam)]) is None
    assert undecided([l1, entry("box", mu, one)]) is None
    assert undecided([l1, entry("box", tau, one), entry("nonnegative")]) is None, "the kink is no inner point"
    assert undecided([entry("box", tau, one)]) is None, "nothing kinks"
