"""Energies, penalties and chains that nobody had in mind: compiled, certified, and compared with autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation
from crate_dsl.errors import CrateError, Source
from crate_dsl.loading import module_of
from crate_dsl.operators.summary import summary
from tests.specs import COMPRESS, ENERGIES, SPARSIFY, encoder, spec

HEADER = """network Tiny
size image = 8, patch = 4, channels = 1
size d = 24, K = 3, L = 2, p = 7, m = 31
real eta = 0.1, lambda = 0.5, tau = 0.3
"""
SMOOTH = {
    "log-sum-exp": "1/2 * sum(k in K) logsumexp((U[k]' * Z)' * (U[k]' * Z))",
    "power": "sum(k in K) total((U[k]' * Z) .^ 4) + 1/2 * norm2(Z)",
    "entry by entry": "total(log(exp(Z) .* exp(Z))) + total(Z ./ exp(Z)) + sum(k in K) norm2(U[k]' * Z)",
    "sum inside": "logdet(I + lambda * Z' * (sum(k in K) U[k] * U[k]') * Z)",
    "sums multiplied": "norm2((sum(k in K) U[k] * U[k]') * (sum(k in K) U[k] * U[k]') * Z) / (2 * d)",
    "trace": "sum(k in K) trace(Z' * U[k] * U[k]' * Z) / (2 * N)",
    "rate reduction": "1/2 * logdet(I + p/N * Z * Z') - 1/2 * sum(k in K) logdet(I + lambda * (U[k]'*Z) * (U[k]'*Z)')",
}
PENALTIES = {
    "soft threshold": "lambda * l1(A)",
    "box": "box(A, -tau, tau)",
    "hard threshold": "lambda * l0(A)",
    "elastic net": "lambda * l1(A) + tau/2 * norm2(A)",
    "l0 and nonnegative": "lambda * l0(A) + nonnegative(A)",
    "l1 in a box": "lambda * l1(A) + box(A, 0, 1)",
}
CHAIN = "norm layer; inverse ~ neumann(1); frame ~ identity"
STEPS = {
    "kappa per head": "learn kappa = 1 per head\ncompress Z by rate(Z, U) { norm layer; step kappa }\n",
    "tied softmax": f"compress Z by rate(Z, U) {{ {CHAIN}; gram ~ softmax(1/sqrt(p)); coefficients ~ absorbed }}\n",
    "second order": "compress Z by rate(Z, U) { inverse ~ neumann(2); frame ~ identity; gram ~ softmax(1) }\n",
    "no softmax": f"compress Z by rate(Z, U) {{ {CHAIN}; gram ~ scaled(1/N); adjoint ~ free(bias) }}\n",
    "neumann alone": "compress Z by rate(Z, U) { inverse ~ neumann(1) }\n",
    "shared": "shared U, D\nlearn kappa > 0 = 2\ncompress Z by rate(Z, U) { norm layer; step kappa }\n" + SPARSIFY,
    "one U twice": "compress Z by rate(Z, U) {}\ncompress Z by rate(Z, U) { norm layer; residual normed }\n",
    "skip": "sparsify Z by lasso(A | Z, D) { norm layer; steps 1 of eta; residual }\n",
}  # fmt: skip


def built(text: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """The certified network of a text in float64, and its features at random images."""
    compilation = Compilation(Source("variant.crate", text), None, {})
    report, passed = certificate(compilation)
    assert passed, report
    torch.manual_seed(0)
    network = module_of(compilation.text, "Variant").Tiny().double()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    assert torch.isfinite(network(images)).all()
    network.energies(images), network.energies(images, raw=True)
    return network, network.features(images)


@pytest.mark.parametrize("name", SMOOTH)
def test_exact_step_is_the_gradient_of_its_own_energy(name: str) -> None:
    energy = f"energy e(Z: d x N, U: K of d x p) = {SMOOTH[name]}\n"
    network, features = built(spec(encoder("compress Z by e(Z, U) { step eta }\n"), header=HEADER, energies=energy))
    tokens, step = 0.1 * features["tokens"].detach(), network.encoder[0].compress
    tokens.requires_grad_()
    (gradient,) = torch.autograd.grad(step.energy(tokens).sum(), tokens)
    assert torch.allclose(step(tokens), tokens - 0.1 * gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_descend(name: str) -> None:
    energy = f"energy e(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + {PENALTIES[name]}\n"
    steps = "sparsify Z by e(A | Z, D) { norm layer; from 0; steps 3 of 1/2; init D orthogonal }\n"
    network, features = built(spec(encoder(steps), header=HEADER, energies=energy))
    before, after = network.encoder[0].sparsify.energies(features["tokens"])
    assert (after < before).all()


@pytest.mark.parametrize("name", STEPS)
def test_chains_and_options(name: str) -> None:
    built(spec(encoder(STEPS[name]), header=HEADER, energies=ENERGIES))


def test_overcomplete_dictionary_with_a_decoupled_read_out() -> None:
    """CRATE-alpha's layer: two steps from zero, read out through a second dictionary, a skip (Yang et al. 2024)."""
    energy = "energy e(A: m x N | X: d x N, D: d x m) = 1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)\n"
    steps = "sparsify Z by e(A | Z, D) { norm layer(1e-6); from 0; steps 2 of eta; read D1; residual }\n"
    network, features = built(spec(encoder(steps), header=HEADER, energies=energy))
    step, z = network.encoder[0].sparsify, features["tokens"]
    v = step.norm(z)
    one = torch.relu(0.1 * v @ step.D - 0.05)
    two = torch.relu(one - 0.1 * (one @ step.D.T - v) @ step.D - 0.05)
    assert torch.allclose(step(z), z + two @ step.D1.T, rtol=1e-10, atol=1e-12)


def test_each_operator_frees_an_adjoint_of_its_own() -> None:
    """Two steps that share U have one U but two outer maps, in the network as in the summary."""
    text = spec(encoder(COMPRESS + COMPRESS), header=HEADER)
    network, _ = built(text)
    names = [name for name, _ in network.encoder[0].named_parameters()]
    assert sum(name.endswith(".U") for name in names) == 1 and sum(name.endswith(".U_out") for name in names) == 2
    program = Compilation(Source("variant.crate", text), None, {}).optimised
    assert summary(program).parameters == sum(p.numel() for p in network.parameters())


def test_a_name_like_that_of_a_freed_matrix_means_nothing() -> None:
    steps = "compress Z by rate(Z, A_out) { norm layer }\n" + SPARSIFY.replace("(A | Z, D)", "(C | Z, A)")
    built(spec(encoder(steps), header=HEADER))


def test_a_freed_matrix_does_not_take_the_name_of_another() -> None:
    text = spec(encoder(COMPRESS + SPARSIFY.replace("Z, D)", "Z, U_out)")), header=HEADER)
    with pytest.raises(CrateError, match='"U_out" would be two parameters'):
        built(text)
