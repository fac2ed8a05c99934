"""The general verbs against references that share nothing with the compiler: autograd, numpy, scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation
from crate_dsl.errors import CrateError, Source
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.mathematics.certify import certify
from tests.pytorch.running import network_of
from tests.specs import derived
from tests.steps import CASES, program_of, text_of

TOKENS = (2, 17, 12)


def tokens(scale: float = 1.0) -> torch.Tensor:
    torch.manual_seed(0)
    return (scale * torch.randn(TOKENS, dtype=torch.float64)).requires_grad_()


def step_of(case: str) -> torch.nn.Module:
    return next(network_of(program_of(CASES[case])).encoder[0].children())


@pytest.mark.parametrize(("general", "named"), [("descend", "compress"), ("ascend", "denoise")])
def test_gradient_steps_under_another_name(general: str, named: str) -> None:
    steps = "VERB Z by brate(Z, U, gamma) { norm layer; step eta; inverse ~ neumann(1) }"
    ours, theirs = (derived(text_of(steps.replace("VERB", verb))).blocks[0].steps[0] for verb in (general, named))
    assert ours.assignments[0].value.same(theirs.assignments[0].value)
    assert [line.kind for line in ours.record] == [line.kind for line in theirs.record]


def test_ascent_ascends() -> None:
    step, z = step_of("ascend"), tokens()
    v = step.norm(z).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(step.energy(v).sum(), v)
    torch.testing.assert_close(step(z), step.norm(z) + 0.3 * gradient, rtol=1e-10, atol=1e-12)
    assert (step.energy(v + 0.3 * gradient) > step.energy(v)).all()


def test_a_proximal_map_of_entries_minimises() -> None:
    """Against a search by scipy, entry by entry; eta is learned, from 0.5."""
    step, z = step_of("prox_of_entries"), tokens(2.0)
    v, image = step.norm(z).detach().numpy().ravel(), step(z).detach().numpy().ravel()
    for x, y in zip(v[:40], image[:40], strict=True):
        found = minimize(lambda u, x=x: 0.5 * (u - x) ** 2 + 0.5 * (0.2 * abs(u) + 0.35 * u**2), x / 2,
                         method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-14})  # fmt: skip
        assert y == pytest.approx(found.x[0], abs=1e-6)


def test_an_implicit_step_solves_its_equation() -> None:
    """`X + eta grad g(X) = V`, the gradient by autograd."""
    step, z = step_of("implicit_step"), tokens()
    x = step(z).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(step.energy(x).sum(), x)
    torch.testing.assert_close(x + 0.3 * gradient, step.norm(z), rtol=1e-10, atol=1e-12)


def test_an_energy_that_is_not_quadratic_has_no_closed_map() -> None:
    with pytest.raises(CrateError, match='no proximal map of "rate" is known'):
        derived(text_of("prox Z by rate(Z, U) { step eta }"))


def test_the_minimiser_is_that_of_least_squares() -> None:
    """Ridge regression of every token, by numpy's least squares on the stacked system; then read out."""
    step, z = step_of("solve_and_read"), tokens()
    dictionary = step.D.detach().numpy()
    stacked = np.vstack([dictionary, np.sqrt(0.7) * np.eye(7)])
    for image in range(2):
        right = np.vstack([z[image].detach().numpy().T, np.zeros((7, 17))])
        code = np.linalg.lstsq(stacked, right, rcond=None)[0]
        np.testing.assert_allclose(step.code(z)[image].detach().numpy().T, code, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(step(z)[image].detach().numpy(), (step.D1.detach().numpy() @ code).T, rtol=1e-9)


def test_solve_generalises_the_synthesis() -> None:
    ours, theirs = derived(text_of("solve Z by lasso(Z | X, D) {}\n denoise Z by lasso(Z | X, D) {}")).blocks[0].steps
    assert ours.assignments[0].value.same(theirs.assignments[0].value)


# ---- projections -----------------------------------------------------------------------------------------------------


def test_the_nearest_probability_vector() -> None:
    """Against a quadratic programme by scipy."""
    z = tokens(1.5)
    found = step_of("simplex")(z).detach().numpy().reshape(-1, 12)
    for x, y in zip(z.detach().numpy().reshape(-1, 12)[:12], found[:12], strict=True):
        sums = {"type": "eq", "fun": lambda u: u.sum() - 1, "jac": lambda u: np.ones_like(u)}
        best = minimize(lambda u, x=x: ((u - x) ** 2).sum(), np.full(12, 1 / 12), jac=lambda u, x=x: 2 * (u - x),
                        bounds=[(0, None)] * 12, constraints=sums, tol=1e-14)  # fmt: skip
        np.testing.assert_allclose(y, best.x, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert (found >= 0).all()


def test_the_simplex_by_the_conditions_of_its_optimum() -> None:
    """`<v - p, e_i - p> <= 0` at every corner: necessary and sufficient, since the simplex is convex."""
    v = np.random.default_rng(0).normal(scale=3, size=(9, 50))
    p = FUNCTIONS["onto_simplex"](v)
    assert np.isfinite(ATOMS["simplex"].value(p)) and not np.isfinite(ATOMS["simplex"].value(v))
    gaps = (v - p) - ((v - p) * p).sum(axis=0)
    assert gaps.max() < 1e-12


def test_the_sphere() -> None:
    z = tokens()
    image = step_of("sphere")(z)
    torch.testing.assert_close(image, z / z.norm(dim=-1, keepdim=True), rtol=1e-12, atol=1e-12)
    assert torch.isfinite(step_of("sphere")(torch.zeros(TOKENS, dtype=torch.float64))).all()


@pytest.mark.parametrize("case", ["sphere", "simplex", "prox_of_entries", "implicit_step", "solve"])
def test_gradients_flow(case: str) -> None:
    step = step_of(case)
    z = torch.randn(1, 17, 12, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: step(x)[:, :2], (z,), eps=1e-6, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("case", ["sphere", "simplex"])
def test_a_wrong_projection_fails_its_certificate(case: str) -> None:
    derivation = derived(text_of(CASES[case]))
    block = derivation.blocks[0]
    (step,) = block.steps
    lines = {f.claim: f.passed for f in certify(derivation)}
    assert lines == {"projection against a search of its constraint": True}
    other = derived(text_of(CASES["simplex" if case == "sphere" else "sphere"])).blocks[0].steps[0]
    wrong = replace(step, record=(step.record[0], other.record[1]))
    tampered = replace(derivation, blocks=(replace(block, steps=(wrong,)),))
    assert [f.passed for f in certify(tampered)] == [False]


# ---- whole networks --------------------------------------------------------------------------------------------------


def test_all_verbs_in_one_network() -> None:
    """Compiled, certified, run; energies are one number per image for every step, constraints among them."""
    steps = "\n".join(
        CASES[c] for c in ("descend", "ascend", "prox_of_entries", "implicit_step", "solve", "sphere", "simplex")
    )
    compilation = Compilation(Source("verbs.crate", text_of(steps)), None, {})
    report, passed = certificate(compilation)
    assert passed, report
    network = network_of(compilation.program)
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    network(images).sum().backward()
    energies = network.energies(images)
    assert all(value.shape == (3,) for pair in energies.values() for value in pair)
    assert {name.rpartition(".")[2] for name in energies} == {
        "descend", "ascend", "prox_shrink", "prox_fit", "solve", "project_sphere", "project_simplex",
    }  # fmt: skip
    last = network.features(images)["encoder.1.project_simplex"]
    torch.testing.assert_close(last.sum(-1), torch.ones(3, 17, dtype=torch.float64))


def test_descent_is_undone_by_ascent() -> None:
    text = text_of("descend Z by rate(Z, U) { norm layer; step eta }").replace(
        "norm layer\nhead", "decoder = inverse(encoder)\nhead"
    )
    decoder = derived(text).blocks[1]
    assert [step.step.verb for step in decoder.steps] == ["ascend"]


@pytest.mark.parametrize("case", ["sphere", "prox_of_entries", "implicit_step"])
def test_maps_without_an_inverse(case: str) -> None:
    text = text_of(CASES[case]).replace("norm layer\nhead", "decoder = inverse(encoder)\nhead")
    with pytest.raises(CrateError, match="has no inverse"):
        derived(text)
