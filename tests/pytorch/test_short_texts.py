"""Texts shorter than declared: matrices over the tokens are cut to them, and N is their number."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.loading import module_of

SPEC = """network Short
size length = 11, vocabulary = 17, d = 12, K = 3, p = 4, r = 2
energy placed(Z: d x N | c: N x 1, Pi: K of N x 1, A: d x N, S: N x r, B: K of d x N, G: N x N) =
    norm2(Z) / (2 * N) + sum(k in K) total(column_norms(Z)' .* Pi[k]) + total(A .* Z) + norm2(Z * S)
    + total((Z * c) .^ 2) + sum(k in K) total(gelu(B[k]' * Z)) + total(gelu(Z * G)) + total(gelu(Z' .+ c))
input text(length, vocabulary)
tokens Z: d x N = embedding
encoder {
    learn c: N x 1 = normal(1), S: N x r = normal(1), Pi: K of N x 1 = normal(1), G: N x N = normal(1)
    learn A: d x N = normal(1), B: K of d x N = normal(1)
    compress Z by placed(Z | c, Pi, A, S, B, G) { norm layer; step 1/7 }
}
head vocabulary
"""


def network_of(length: int) -> nn.Module:
    torch.manual_seed(0)
    return module_of(Compilation(Source("short.crate", SPEC), None, {"length": length}).text, "Short").Short().double()


def cut(value: Tensor, count: int) -> Tensor:
    """What a network declared for fewer tokens would hold; a family is stacked."""
    if value.shape[0] == 3 * 11:
        value = value.unflatten(0, (3, 11))[:, :count].flatten(0, 1)
    for axis in (axis for axis, length in enumerate(value.shape) if length == 11):
        value = value.narrow(axis, 0, count)
    return value


@pytest.mark.parametrize("length", [1, 7, 11])
def test_a_short_text_is_read_as_by_a_network_declared_for_it(length: int) -> None:
    network, declared = network_of(11), network_of(length)
    declared.load_state_dict({name: cut(value, length) for name, value in network.state_dict().items()})
    text = torch.randint(17, (2, length))
    torch.testing.assert_close(network(text), declared(text), rtol=1e-12, atol=1e-12)
    for raw in (False, True):
        torch.testing.assert_close(network.energies(text, raw), declared.energies(text, raw), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("length", [1, 7])
def test_the_step_descends_the_energy_of_the_short_text(length: int) -> None:
    step = network_of(11).encoder[0].compress
    step.norm = nn.Identity()
    z = torch.randn(2, length, 12, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(step.energy(z).sum(), z)
    torch.testing.assert_close(step(z), z - slope / 7, rtol=1e-10, atol=1e-12)
