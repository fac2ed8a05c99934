"""Log-densities of mixtures and other energies of exponentials: no overflow, and no gradient lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from crate_dsl.operators.lower import lower
from tests.pytorch.running import network_of
from tests.specs import derived

SPEC = """network Own
size d = 12, K = 3, p = 4, m = 7, n = 9
real t = 0.5
energy own(Z: d x N | {arguments}) = {energy}
input vectors(d, n)
tokens Z: d x N = vectors
encoder repeat 1 {{ denoise Z by own(Z | {learned}) {{ step t^2 }} }}
head tokens
"""
STRETCH = 40.0  # of tokens: exponents near 1,000, where exp has left float32 and float64


def network(arguments: str, energy: str, **sizes: int) -> nn.Module:
    text = SPEC.format(arguments=arguments, energy=energy, learned=arguments.partition(":")[0])
    return network_of(lower(derived(text, **sizes)), seed=1)


# ---- far out, where exp overflows ------------------------------------------------------------------------------


def heads(z: Tensor, u: Tensor) -> Tensor:
    """|U[k]' z|^2, (batch, K, N)."""
    return (z @ u.T).unflatten(-1, (3, -1)).square().sum(-1).transpose(1, 2)


def mixture(z: Tensor, u: Tensor) -> Tensor:
    return 2 * (heads(z, u) / 4).logsumexp(1).sum() - z.square().sum() / 2


def weighed(z: Tensor, u: Tensor) -> Tensor:
    return (heads(z, u).logsumexp(1) * z.sum(-1)).sum() / 12


def softplus(z: Tensor, w: Tensor) -> Tensor:
    return torch.logaddexp(z @ w / 2, torch.zeros(())).sum() * 2


def columns(z: Tensor, w: Tensor) -> Tensor:
    return ((z @ w).logsumexp(-1) * z.sum(-1)).sum() / 12


HEADS = "log(sum(k in K) exp(column_sums((U[k]' * Z) .^ 2) * %s))"
ENERGIES: dict[str, tuple[str, str, Callable[[Tensor, Tensor], Tensor]]] = {
    "mixture": ("U: K of d x p", f"2 * total({HEADS % 't^2'}) - 1/2 * norm2(Z)", mixture),
    "weighed": ("U: K of d x p", f"total({HEADS % 1} .* column_sums(Z)) / d", weighed),
    "softplus": ("W: d x m", "total(log1p(exp(t * W' * Z))) / t", softplus),
    "columns": ("W: d x m", "total(log(column_sums(exp(W' * Z))) .* column_sums(Z)) / d", columns),
    "rows": ("W: d x m", "total(log(row_sums(exp(Z' * W))) .* row_sums(Z')) / d", columns),
}


@pytest.mark.parametrize("name", ENERGIES)
@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_far_out(name: str, dtype: torch.dtype, error: float) -> None:
    """Step, gradients and energy beside autograd of torch's functions; float32 has lost digits in the exponents."""
    arguments, text, energy = ENERGIES[name]
    step = next(network(arguments, text).encoder[0].children())
    z = (STRETCH * torch.randn(2, 9, 12, dtype=torch.float64)).requires_grad_()
    (weight,) = step.parameters()
    (slope,) = torch.autograd.grad(energy(z, weight), z, create_graph=True)
    wanted, pull = z + 0.25 * slope, torch.randn_like(z)
    gradients = torch.autograd.grad((wanted * pull).sum(), (z, weight))
    value = energy(z, weight)
    own, leaf = step.to(dtype), z.detach().to(dtype).requires_grad_()
    found = own(leaf)
    close(found, wanted, error)
    close(own.energy(leaf).sum(), value, error)
    for mine, theirs in zip(torch.autograd.grad((found * pull).sum(), (leaf, weight)), gradients, strict=True):
        close(mine, theirs, error)


def close(found: Tensor, wanted: Tensor, error: float) -> None:
    assert (found.double() - wanted).norm() <= error * wanted.norm()


# ---- Tweedie's formula -----------------------------------------------------------------------------------------


def test_the_posterior_mean() -> None:
    """The log-density of noisy tokens, climbed by the variance of the noise, beside a mean of weighed clean points.

    Clean points lie on two lines of space, their coefficients are standard normal; the noise has variance 1/4.
    """
    density = f"total({HEADS % '(1 / (2 * t^2 * (1 + t^2)))'}) - norm2(Z) / (2 * t^2)"
    net = network("U: K of d x p", density, d=3, K=2, p=1, n=5)
    lines = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0]], dtype=torch.float64)
    (weight,) = net.parameters()
    weight.data = lines.clone()
    generator = torch.Generator().manual_seed(0)
    noisy = torch.randn(1, 5, 3, generator=generator, dtype=torch.float64)
    coefficients = torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
    clean = torch.cat([coefficients * line for line in lines])
    likelihood = (-(noisy[0, :, None] - clean).square().sum(-1) / (2 * 0.25)).softmax(-1)
    torch.testing.assert_close(net(noisy)[0], likelihood @ clean, atol=5e-3, rtol=0)
