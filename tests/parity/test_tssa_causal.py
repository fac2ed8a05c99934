"""The causal token statistics of ToST from the general rule, against the official operator (gradients included)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.loading import module_of

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "tssa_causal.npz")
SPEC = """network Statistics
size length = 16, vocabulary = 64, d = 24, K = 3, p = d / K
energy variational_rate(Z: d x N | U: K of d x p, b: K of p x 1, Pi: K of N x 1) =
    1/2 * sum(k in K) (total(Pi[k]) + 1e-8) / N
        * total(log1p((U[k]' * Z .+ b[k]) .^ 2 * Pi[k] / (total(Pi[k]) + 1e-8)))
input text(length, vocabulary)
tokens Z: d x N = embedding + position(learned)
encoder repeat 1 {
    learn temp = 1 per head
    learn b: K of p x 1 = zeros, bias: K of N x 1 = zeros
    compress Z by variational_rate(Z | U, b, Pi) {
        causal
        let Pi[k in K] = softmax(k in K) temp * (column_sums(unit_rows(U[k]' * Z .+ b[k]) .^ 2)' + p * bias[k])
        coefficients ~ absorbed
        adjoint ~ free(bias)
    }
}
head vocabulary(tied)
"""
NAMES = {"U": "c_attn.weight", "b": "c_attn.bias", "bias": "denom_bias", "temp": "temp", "U_out": "c_proj.weight"}


@pytest.fixture(scope="module")
def compilation() -> Compilation:
    return Compilation(Source("statistics.crate", SPEC), None, {})


@pytest.fixture(scope="module")
def step(compilation: Compilation) -> nn.Module:
    """The written step with the official numbers; its outer map is stored transposed, its bias is subtracted."""
    step = module_of(compilation.text, "Statistics").Statistics().double().encoder[0].compress
    with torch.no_grad():
        for ours, theirs in NAMES.items():
            getattr(step, ours).copy_(ours_of(ours, golden(f"param/{theirs}")).view_as(getattr(step, ours)))
        step.U_bias.copy_(-golden("param/c_proj.bias"))
    return step


def golden(name: str) -> Tensor:
    return torch.from_numpy(GOLDEN[name])


def ours_of(name: str, value: Tensor) -> Tensor:
    return value.T if name == "U_out" else value


def test_operator_and_gradients(step: nn.Module) -> None:
    x = golden("in/x").requires_grad_()
    y = step(x) - x
    torch.testing.assert_close(y, golden("out/y"), rtol=1e-10, atol=1e-10)
    leaves = [x, *(getattr(step, name) for name in NAMES)]
    gradients = torch.autograd.grad(y.square().sum(), leaves)
    wanted = [golden("grad_in/x"), *(ours_of(o, golden(f"grad/{t}")) for o, t in NAMES.items())]
    for ours, theirs in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(ours, theirs.reshape(ours.shape), rtol=1e-10, atol=1e-10)


def test_one_token_after_another(step: nn.Module) -> None:
    x, memory = golden("in/x"), {}
    found = torch.cat([step.advance(x[:, t : t + 1], memory) for t in range(x.shape[1])], dim=1)
    torch.testing.assert_close(found - x, golden("out/y"), rtol=1e-10, atol=1e-10)
    assert all(held.shape[-2] == 1 for held in memory.values() if isinstance(held, Tensor)), "of constant size"


def test_is_certified(compilation: Compilation) -> None:
    report, passed = certificate(compilation)
    assert passed, report
