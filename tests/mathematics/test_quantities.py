"""Quantities held by a derivation: how numbers cancel, and gradients against finite differences and official ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import sympy

from crate_dsl.errors import CrateError
from crate_dsl.language.model import ONE
from crate_dsl.library.form import Diagonal, Form, Leaf, Word
from crate_dsl.library.products import diagonal, diagonal_part, hadamard, ones
from crate_dsl.library.scalars import scalar, tidy
from crate_dsl.mathematics.certify import certify
from crate_dsl.mathematics.derivation import DerivedStep
from crate_dsl.mathematics.evaluate import Point, form_value
from tests.specs import derived
from tests.steps import CASES, text_of

DATA = Path(__file__).parent.parent / "data"
HELD = ("memberships", "memberships_without_norm", "reduction", "position_logits", "gelu", "gelu_slope",
        "held_numbers", "held_matrices", "held_matrices_normed")  # fmt: skip
RNG = np.random.default_rng(0)
POINT = Point(
    {"d": 5, "N": 4, "K": 3},
    {},
    {
        "X": RNG.standard_normal((5, 4)),
        "S": RNG.standard_normal((4, 4)),
        "u": RNG.standard_normal((3, 5, 1)),
        "v": RNG.standard_normal((3, 4, 1)),
    },
)
X, S = Form.leaf(Leaf("X", "d", "N")), Form.leaf(Leaf("S", "N", "N"))
U, V = Leaf("u", "d", ONE, "k"), Leaf("v", "N", ONE, "k")


def step_of(case: str) -> DerivedStep:
    return derived(text_of(CASES[case])).blocks[0].steps[0]


def gradient_of(step: DerivedStep) -> Form:
    return next(line.after for line in step.record if line.rule == "gradient")


@pytest.mark.parametrize("case", HELD)
def test_gradients_hold_what_is_held(case: str) -> None:
    findings = [f for f in certify(derived(text_of(CASES[case]))) if f.passed is not None]
    assert findings and all(finding.error < 1e-9 for finding in findings)


def test_held_numbers_cancel() -> None:
    """`(n_k + 1e-8) / N * 1 / (n_k + 1e-8)` leaves 1 / N; what is held is named as it is written."""
    step = step_of("memberships_without_norm")
    assert {word.coefficient for word in gradient_of(step).words} == {
        1 / sympy.Symbol("N", positive=True, integer=True)
    }
    assert [(q.name, q.family, q.stated, q.positive) for q in step.quantities] == [
        ("Pi", "K", True, True),
        ("total(Pi)", "K", False, True),
    ]


def test_a_fraction_is_only_cancelled_where_that_shortens_it() -> None:
    n, m = scalar("n", index="k"), scalar("m")
    assert tidy((n + 1) / (m * (n + 1))) == 1 / m
    assert tidy(m / (n + 1)) == m / (n + 1)
    assert tidy(m * (n + 1)) == sympy.expand(m * n + m)


def test_a_number_over_two_families_is_refused() -> None:
    text = text_of("compress Z by e(Z, U, V) { step eta }").replace(
        "energy mixed",
        "energy e(Z: d x N, U: K of d x p, V: m of d x p) =\n"
        "    sum(k in K) sum(h in m) norm2(Z) / total(U[k] .* V[h])\nenergy mixed",
    )
    with pytest.raises(CrateError, match="two families"):
        derived(text)


def test_a_penalty_is_not_weighed_by_a_held_number() -> None:
    text = text_of("sparsify Z by e(A | Z, D, n) { let n = 1 / total(Z .* Z); steps 1 of eta }").replace(
        "energy mixed",
        "energy e(A: d x N | X: d x N, D: d x d, n: real) = 1/2 * norm2(X - D * A) + n * l1(A)\nenergy mixed",
    )
    with pytest.raises(CrateError, match="cannot be weighted"):
        derived(text)


# ---- outer products and diagonals ----------------------------------------------------------------------------------


def outer(*over: tuple[str, str]) -> Form:
    return Form("d", "N", (Word(sympy.Integer(2), (U, V.T), over),))


@pytest.mark.parametrize("turned", [False, True])
def test_an_outer_product_entry_by_entry_is_two_diagonals(turned: bool) -> None:
    product = hadamard(X, outer(("k", "K"))) if turned else hadamard(outer(("k", "K")), X)
    assert [type(factor) for factor in product.words[0].factors] == [Diagonal, Leaf, Diagonal]
    wanted = POINT.matrices["X"] * form_value(outer(("k", "K")), POINT)
    np.testing.assert_allclose(form_value(product, POINT), wanted, rtol=1e-12)


def test_sums_of_two_outer_products_keep_their_indices_apart() -> None:
    product = hadamard(outer(("k", "K")), hadamard(outer(("k", "K")), X))
    wanted = POINT.matrices["X"] * form_value(outer(("k", "K")), POINT) ** 2
    np.testing.assert_allclose(form_value(product, POINT), wanted, rtol=1e-12)


def test_the_diagonal_of_ones_is_the_identity_and_numbers_stand_before_it() -> None:
    assert diagonal(ones("d", ONE)).same(Form.identity("d"))
    assert str(diagonal(Form.leaf(Leaf("w", "d", ONE)).scaled(sympy.Integer(3)))) == "3 * Diag(w)"


def test_diagonal_matrices_side_by_side_commute() -> None:
    first, second = (diagonal(Form.leaf(Leaf(name, "d", ONE))) for name in "ab")
    assert (first @ second @ X).same(second @ first @ X)


def test_the_diagonal_part() -> None:
    for form in (S, S @ S.T + Form.identity("N"), X.T @ outer(("k", "K"))):
        found = form_value(diagonal_part(form), POINT)
        np.testing.assert_allclose(found[:, 0], np.diag(form_value(form, POINT)), rtol=1e-12)


# ---- against official numbers --------------------------------------------------------------------------------------

REDUCTION = """
energy e(Z: d x N | Pi: K of N x 1) = -1/2 * logdet(I + d / (N * eps) * Z * Z')
    + sum(k in K) (total(Pi[k]) + 1e-8) / (2 * N) * logdet(I + d / ((total(Pi[k]) + 1e-8) * eps) * Z * diag(Pi[k]) * Z')
real eps = 0.1
energy mixed"""


def test_the_rate_reduction_with_soft_memberships() -> None:
    """The loss of CPP at given memberships and its gradient in the features (mcr2 golden, official autograd)."""
    golden = np.load(DATA / "mcr2.npz")
    steps = """learn bias: K of N x 1 = zeros
        compress Z by e(Z | Pi) { let Pi[k in K] = softmax(k in K) bias[k] }"""
    step = derived(text_of(steps).replace("\nenergy mixed", REDUCTION)).blocks[0].steps[0]
    memberships = golden["in/soft"][:, :, None]
    sizes = {"d": 8, "N": 20, "K": 4}
    matrices = {"Z": golden["in/Z"].T, "Pi": memberships}
    held = {"eps": 0.1, "total(Pi)": memberships.sum(axis=(1, 2))}
    gradient = form_value(gradient_of(step), Point(sizes, held, matrices)).T
    wanted = golden["grad_in/soft/Z"]
    assert np.linalg.norm(gradient - wanted) <= 1e-10 * np.linalg.norm(wanted)
