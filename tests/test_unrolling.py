"""Unrolled iterations against references of our own: FISTA in numpy, learned steps and thresholds in torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.mathematics.proximal_step import momentum
from crate_dsl.operators.lower import lower
from crate_dsl.operators.summary import summary
from tests.pytorch.running import network_of
from tests.specs import derived
from tests.steps import CASES, program_of, text_of


def fista(x: np.ndarray, dictionary: np.ndarray, eta: float, weight: float, count: int) -> list[np.ndarray]:
    """Algorithm "FISTA with constant stepsize" of Beck & Teboulle 2009 for the LASSO of columns x, from zero."""
    current = extrapolated = np.zeros((dictionary.shape[1], x.shape[1]))
    t, iterates = 1.0, []
    for _ in range(count):
        v = extrapolated - eta * dictionary.T @ (dictionary @ extrapolated - x)
        following = np.sign(v) * np.maximum(np.abs(v) - eta * weight, 0)
        t_next = (1 + math.sqrt(1 + 4 * t**2)) / 2
        extrapolated = following + (t - 1) / t_next * (following - current)
        current, t = following, t_next
        iterates.append(current)
    return iterates


def step_of(case: str) -> torch.nn.Module:
    return network_of(program_of(CASES[case])).encoder[0].sparsify


def test_accelerated_steps_are_fista() -> None:
    step, z = step_of("accelerated"), torch.randn(2, 17, 12, dtype=torch.float64)
    v, dictionary = step.norm(z), step.D.detach().numpy()
    for image in range(2):
        wanted = fista(v[image].detach().numpy().T, dictionary, 0.3, 0.2, 5)[-1]
        np.testing.assert_allclose(step.code(v)[image].detach().numpy().T, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_every_number_of_iterations(count: int) -> None:
    steps = f"sparsify Z by soft(A | Z, D) {{ from 0; steps {count} of eta; accelerate; read D1 }}"
    step = network_of(program_of(steps)).encoder[0].sparsify
    z = torch.randn(1, 17, 12, dtype=torch.float64)
    wanted = fista(z[0].numpy().T, step.D.detach().numpy(), 0.3, 0.2, count)[-1]
    np.testing.assert_allclose(step.code(z)[0].detach().numpy().T, wanted, rtol=1e-10, atol=1e-12)


def test_the_first_two_iterations_are_those_of_ista() -> None:
    assert momentum(2)[0] == 0
    plain, fast = (
        derived(text_of(f"sparsify Z by soft(A | Z, D) {{ from 0; steps 2 of eta; read D{word} }}")).blocks[0].steps[0]
        for word in ("", "; accelerate")
    )
    assert all(a.value.same(b.value) for a, b in zip(plain.assignments, fast.assignments, strict=True))


def test_momentum_is_faster() -> None:
    """On an ill-conditioned dictionary, far from converged: the reason to have it."""

    def energies(word: str) -> torch.Tensor:
        steps = f"sparsify Z by soft(A | Z, D) {{ from 0; steps 60 of 1/10; read D{word} }}"
        step = network_of(program_of(steps)).encoder[0].sparsify
        with torch.no_grad():
            scale = torch.logspace(0, -1.5, 7, dtype=torch.float64)
            step.D.copy_(torch.linalg.qr(step.D).Q * 3 * scale)
        z = torch.randn(4, 17, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        return step.energies(3 * z)[1]

    assert (energies("; accelerate") < energies("")).all()


def test_steps_and_thresholds_per_iteration() -> None:
    """Unrolled by hand, with values of their own and their gradients."""
    step = step_of("per_iteration")
    names = [f"log_{name}_{n}" for name in ("theta", "tau") for n in (1, 2, 3)]
    with torch.no_grad():
        for place, name in enumerate(names):
            getattr(step, name).fill_(math.log(0.1 + 0.05 * place))
    z = torch.randn(2, 17, 12, dtype=torch.float64)
    v, code = step.norm(z), torch.zeros(2, 17, 7, dtype=torch.float64)
    own = {name: getattr(step, name).detach().clone().requires_grad_() for name in names}
    for n in (1, 2, 3):
        theta, tau = own[f"log_theta_{n}"].exp(), own[f"log_tau_{n}"].exp()
        moved = code - theta * (code @ step.D.T - v) @ step.D
        code = moved.sign() * (moved.abs() - theta * tau).clamp(min=0)
    wanted = code @ step.D.T
    torch.testing.assert_close(step(z), wanted, rtol=1e-12, atol=1e-12)
    wanted.square().sum().backward()
    step.zero_grad()
    step(z).square().sum().backward()
    for name in names:
        torch.testing.assert_close(getattr(step, name).grad, own[name].grad, rtol=1e-10, atol=1e-12)


def test_a_number_per_iteration_inside_a_diagonal_matrix() -> None:
    """The gradient of column norms scales columns, here by a sum that no coefficient can be taken out of."""
    energy = """energy damped(A: d x N | X: d x N, D: d x d, theta: real) =
    1/2 * norm2(X - D * A) + total(exp(column_sums(A) - theta * column_norms(A))) + lambda * l1(A)\n"""
    steps = "learn theta > 0 = 0.4 per iteration\nsparsify Z by damped(A | Z, D, theta) { from Z; steps 2 of eta }"
    step = network_of(lower(derived(text_of(steps).replace("input ", energy + "input ")))).encoder[0].sparsify
    with torch.no_grad():
        step.log_theta_2.fill_(math.log(0.9))
    code = z = torch.randn(2, 17, 12, dtype=torch.float64)
    for theta in (step.log_theta_1.exp(), step.log_theta_2.exp()):
        code = code.detach().requires_grad_()
        fit = 0.5 * (z - code @ step.D.T).square().sum()
        slope = torch.autograd.grad(fit + (code.sum(-1) - theta * code.norm(dim=-1)).exp().sum(), code)[0]
        moved = code - 0.3 * slope
        code = moved.sign() * (moved.abs() - 0.3 * 0.2).clamp(min=0)
    torch.testing.assert_close(step(z), code, rtol=1e-10, atol=1e-10)


def test_the_energy_is_that_of_the_last_iteration() -> None:
    step = step_of("per_iteration")
    with torch.no_grad():
        step.log_tau_3.fill_(math.log(0.9))
    code, v = torch.randn(2, 17, 7, dtype=torch.float64), torch.randn(2, 17, 12, dtype=torch.float64)
    wanted = 0.5 * (v - code @ step.D.T).square().sum((1, 2)) + 0.9 * code.abs().sum((1, 2))
    torch.testing.assert_close(step.energy(code, v), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", ["accelerated", "accelerated_from_tokens", "per_iteration", "per_iteration_shared"])
def test_certified_and_counted(case: str) -> None:
    compilation = Compilation(Source("unrolled.crate", text_of(CASES[case])), None, {})
    report, passed = certificate(compilation)
    assert passed, report
    network = network_of(compilation.program)
    assert summary(compilation.optimised).parameters == sum(p.numel() for p in network.parameters())


def test_what_is_shared_is_one_for_all_layers() -> None:
    network = network_of(program_of(CASES["per_iteration_shared"]))
    first, second = network.encoder[0].sparsify, network.encoder[1].sparsify
    assert first.theta_1 is second.theta_1 and first.theta_1 is not first.theta_2


def test_a_start_value_can_be_set() -> None:
    program = program_of(CASES["per_iteration"], theta=0.25)
    step = network_of(program).encoder[0].sparsify
    assert [float(getattr(step, f"log_theta_{n}").detach().exp()) for n in (1, 2, 3)] == pytest.approx([0.25] * 3)


def test_the_certificate_knows_the_bound_of_fista() -> None:
    text = text_of("sparsify Z by soft(A | Z, D) { from 0; steps 3 of 10; accelerate; read D }")
    report, _ = certificate(Compilation(Source("large.crate", text), None, {}))
    assert "NOT at most 1: FISTA may not converge" in report
