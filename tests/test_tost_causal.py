"""The causal token-statistics network against a loop over prefixes written by hand, its gradients against autograd."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crate_dsl import load
from crate_dsl.certificate import certificate
from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.errors import CrateError, Source
from crate_dsl.loading import module_of
from runtime import sample
from tests.pytorch.running import in_parts

SPEC = Path(__file__).parents[1] / "specs" / "tost_causal.crate"
SIZES = {"length": 19, "vocabulary": 11, "d": 20, "K": 4, "L": 2, "m": 28, "scale": 1}
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
EXACT = """network Exact
size length = 19, vocabulary = 11, d = 20, K = 4, p = 5
energy rate(Z: d x N | U: K of d x p, Pi: K of N x 1) = 1/2 * sum(k in K) (total(Pi[k]) + 1e-8) / N
    * total(log1p((U[k]' * Z) .^ 2 * Pi[k] / (total(Pi[k]) + 1e-8)))
input text(length, vocabulary)
tokens Z: d x N = embedding
encoder {
    learn place: K of N x 1 = normal(1)
    compress Z by rate(Z | U, Pi) {
        causal; step 3
        let Pi[k in K] = softmax(k in K) (column_sums(unit_rows(U[k]' * Z) .^ 2)' + place[k])
    }
}
head vocabulary
"""


def perturbed(network: nn.Module) -> nn.Module:
    """No bias zero, no scale one."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        with torch.no_grad():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return network.double()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return perturbed(load(SPEC, **SIZES))


def memberships(w: Tensor, temp: Tensor, place: Tensor) -> Tensor:
    """Of the last of the tokens w, (batch, K, t, p): their share among the heads, (batch, K)."""
    ratio = w[:, :, -1] ** 2 / (w**2).sum(dim=2)
    return ((ratio + place[..., w.shape[2] - 1, None]) * temp[:, None]).sum(dim=-1).softmax(dim=1)


def statistics_of_prefixes(step: nn.Module, z: Tensor) -> Tensor:
    """Token after token, everything computed anew from its prefix but the memberships, which stay."""
    u, out = (matrix.unflatten(0, (4, 5)) for matrix in (step.U, step.U_out))
    w = torch.einsum("bnd,kpd->bknp", step.norm(z), u) + step.b[:, None]
    held, moved = [], []
    for t in range(1, z.shape[1] + 1):
        held.append(memberships(w[:, :, :t], step.temp, step.bias))
        pi = torch.stack(held, dim=2)[..., None]
        second_moment = (pi * w[:, :, :t] ** 2).sum(dim=2) / (pi.sum(dim=2) + 1e-8)
        weighed = pi[:, :, -1] * w[:, :, t - 1] / (1 + second_moment)
        moved.append(torch.einsum("bkp,kpd->bd", weighed, out) + step.U_bias)
    return z - step.gamma * torch.stack(moved, dim=1)


def by_hand(network: nn.Module, text: Tensor) -> Tensor:
    z = network.embedding.weight[text] + network.position[:, : text.shape[1]]
    for layer in network.encoder:
        z = statistics_of_prefixes(layer.compress_variational_rate, z)
        mlp = layer.compress_feed_forward
        z = z + mlp.gamma2 * (F.gelu(mlp.norm(z) @ mlp.W + mlp.c) @ mlp.W_out.T + mlp.W_bias)
    return network.encoder_norm(z) @ network.embedding.weight.T


@pytest.mark.parametrize("length", [1, 8, 19])
def test_every_prefix_and_every_gradient(network: nn.Module, length: int) -> None:
    text = torch.randint(11, (3, length))
    found, wanted = network(text), by_hand(network, text)
    torch.testing.assert_close(found, wanted, **CLOSE)
    weights = torch.randn_like(found)
    leaves = tuple(network.parameters())
    ours, theirs = (torch.autograd.grad((value * weights).sum(), leaves) for value in (found, wanted))
    torch.testing.assert_close(ours, theirs, **CLOSE)


def test_words_in_parts_give_the_same_predictions(network: nn.Module) -> None:
    text = torch.randint(11, (2, 19))
    for sizes in ((1,) * 19, (19,), (3, 5, 1, 10)):
        torch.testing.assert_close(in_parts(network.advance, text, *sizes), network(text), **CLOSE)


def test_sampling_is_the_most_probable_word_again_and_again(network: nn.Module) -> None:
    """Also past the longest text, where the last words are read again."""
    prompt, wanted = torch.tensor([3, 1]), torch.tensor([3, 1])
    for _ in range(24):
        logits = network(wanted[None, -19:])[0, -1]
        wanted = torch.cat([wanted, logits.argmax()[None]])
    generator = torch.Generator().manual_seed(0)
    assert list(sample.continuation(network, prompt, 24, 0.0, None, generator)) == wanted[2:].tolist()


def test_the_exact_step_is_the_gradient_in_the_last_token_of_every_prefix() -> None:
    """Of the energy by hand, with the memberships that the tokens had when they came."""
    compilation = Compilation(Source("exact.crate", EXACT), None, {})
    step = perturbed(module_of(compilation.text, "Exact").Exact()).encoder[0].compress
    z = torch.randn(2, 12, 20, dtype=torch.float64)
    u, ones = step.U.detach().unflatten(0, (4, 5)), torch.ones(4, dtype=torch.float64)
    w = torch.einsum("bnd,kpd->bknp", z, u)
    pi = torch.stack([memberships(w[:, :, :t], ones, step.place.detach() / 5) for t in range(1, 13)], dim=2)
    for t in range(1, 13):
        prefix = z[:, :t].clone().requires_grad_()
        moments = torch.einsum("bkn,bknp->bkp", pi[:, :, :t], torch.einsum("bnd,kpd->bknp", prefix, u) ** 2)
        count = pi[:, :, :t].sum(dim=2) + 1e-8
        energy = (count / (2 * t) * torch.log1p(moments / count[..., None]).sum(dim=-1)).sum()
        (slope,) = torch.autograd.grad(energy, prefix)
        torch.testing.assert_close(step(z)[:, t - 1], z[:, t - 1] - 3 * slope[:, -1], **CLOSE)


def test_is_certified() -> None:
    report, passed = certificate(compile_spec(SPEC, None, SIZES))
    assert passed and "column t against finite differences in token t of the energy of tokens 1..t" in report


def test_a_quantity_without_a_causal_form_is_named_where_it_stands() -> None:
    wrong = EXACT.replace("column_sums(unit_rows(", "column_sums(1 / (N + norm2(Z)) * unit_rows(")
    with pytest.raises(CrateError, match="11:9: this quantity has no causal form: .*where N grows") as found:
        _ = Compilation(Source("exact.crate", wrong), None, {}).optimised
    assert "norm2(Z)" in str(found.value) and "compute it otherwise" in str(found.value)
