"""Odd energies in half precision: whole networks in bfloat16 and float16, and under autocast, beside float64.

Blocks of full precision stand among products in half precision there, in every order: no two precisions may meet in one
product, and what a network gives out is in its own.
"""

from __future__ import annotations

import copy
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import crate_dsl
from tests.pytorch.test_odd_energies import CAUSAL, PLAIN, SHAPES, D, N, network

PRECISIONS = {"bfloat16": torch.bfloat16, "float16": torch.float16, "autocast": torch.float32}
SPEC = """network T
size d = 6, K = 2, p = 3, m = 4, r = 2, N = 4
real eta = 0.02
{energies}
input vectors(d, N)
tokens Z: d x N = vectors
encoder repeat 2 {{
learn beta > 0 = 0.1
{steps}
}}
head tokens
"""
# Energies and what they read; those of the second table have no causal form.
TERMS = {
    "1/2 * sum(k in K) logdet(I + beta * (U[k]' * Z)' * (U[k]' * Z))": "U beta",
    "1/N * norm2(Z' * Z .+ Z' * v)": "v",
    "1/N * total(Z' * Z .* ((Z .+ v)' * (Z .+ v)))": "v",
    "1/N * norm2(row_sums(Z .+ v))": "v",
    "1/N * norm2(row_sums(W' * Z)) + norm2(column_sums(W' * Z))": "W",
    "0.002 * sum(k in K) total((column_sums(Z) * column_sums(U[k]' * Z)' * column_sums(U[k]' * Z)) .^ 3)": "U",
    "0.01/N * sum(k in K) total(row_sums(row_sums(U[k]' * Z) * column_sums(Z) .+ b[k]) .^ 3)": "U b",
    "sum(k in K) logdet(I + 0.1 * (b[k] * (v' * Z))' * (b[k] * (v' * Z)))": "b v",
    "sum(k in K) norm2(U[k]' * Z .+ -1/N * row_sums(U[k]' * Z))": "U",
    "1/N * total(log1p(row_sums((W' * Z .+ c) .^ 2)))": "W c",
    "-total(gelu_potential(W' * Z .+ c))": "W c",
    "beta * norm2(V * Z)": "V beta",
}
WHOLE = {
    "1/2 * sum(k in K) logdet(I + (U[k]' * Z .+ b[k])' * (U[k]' * Z .+ b[k]))": "U b",
    "1/2 * logdet(I + (W' * Z .+ c)' * (W' * Z .+ c))": "W c",
    "logdet(I + row_sums(V * Z) * row_sums(V * Z)')": "V",
    "logdet(I + beta * W * W') * norm2(V * Z)": "W V beta",
    "-1/2 * sum(k in K) logsumexp(beta * (U[k]' * Z)' * (U[k]' * Z))": "U beta",
}
MEMBERSHIPS = """energy members(Z: d x N | U: K of d x p, Pi: K of N x 1) = 1/2 * sum(k in K) (total(Pi[k]) + 1e-8) / N
    * total(log1p((U[k]' * Z) .^ 2 * Pi[k] / (total(Pi[k]) + 1e-8)))"""
MEMBERS = """compress Z by members(Z | U, Pi) {
    causal; norm layer; coefficients ~ absorbed; adjoint ~ free(bias); step beta
    let Pi[k in K] = softmax(k in K) column_sums(unit_rows(U[k]' * Z) .^ 2)' }"""


def drawn(seed: int) -> str:
    """A network of one or two steps, each down a sum of odd energies, among them one with memberships."""
    draw = random.Random(seed)
    energies, steps = [MEMBERSHIPS], [MEMBERS] if draw.random() < 0.3 else []
    for place in range(draw.choice([1, 1, 2])):
        causal = draw.random() < 0.5
        terms = draw.sample([*(TERMS if causal else TERMS | WHOLE).items()], draw.choice([1, 2, 3]))
        names = list(dict.fromkeys(name for _, reads in terms for name in reads.split()))
        arguments = ", ".join(["Z: d x N", *(f"{name}: {SHAPES.get(name, 'real')}" for name in names)])
        energies.append(f"energy e{place}({arguments}) = {' + '.join(text for text, _ in terms)}")
        raw = not any(".^ 3" in text for text, _ in terms) and draw.random() < 0.5  # a cube of raw tokens runs away
        options = ("causal; " if causal else "") + ("" if raw else "norm layer; ")
        steps.append(f"compress Z by e{place}({', '.join(['Z', *names])}) {{ {options}step eta }}")
    return SPEC.format(energies="\n".join(energies), steps="\n".join(steps))


def learned(module: nn.Module, z: Tensor, precision: str) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of a sum of it in the tokens and in all that is learned."""
    module, z = copy.deepcopy(module).to(z.dtype), z.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        output = module(z)
        energies = [value for pair in module.energies(z).values() for value in pair]
    assert z.dtype == torch.float16 or all(value.isfinite().all() for value in energies)  # cubes overflow there
    (output.double() * torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view_as(output)).sum().backward()
    return output, [z.grad, *(x.grad for x in module.parameters() if x.grad is not None)]


def stays_near(module: nn.Module, precision: str) -> None:
    z = torch.randn(2, N, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact, wanted = learned(module, z.clone(), "")
    kind = PRECISIONS[precision]
    output, found = learned(module, z.to(kind), precision)
    assert precision == "autocast" or output.dtype == kind
    assert all(gradient.isfinite().all() for gradient in found)
    assert (output.double() - exact).norm() < 0.03 * exact.norm()
    away = sum((a.double() - b).square().sum() for a, b in zip(found, wanted, strict=True))
    assert away < 0.06**2 * sum(b.square().sum() for b in wanted)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", [*PLAIN, *(f"causal {name}" for name in CAUSAL)])
def test_one_energy(name: str, precision: str, tmp_path: Path) -> None:
    options = "causal; " if name.startswith("causal ") else ""
    text, names, _ = CAUSAL[name.removeprefix("causal ")] if options else PLAIN[name]
    stays_near(network(tmp_path, text, names, options), precision)


@pytest.mark.parametrize("freeze", [False, True], ids=["learned", "frozen"])
@pytest.mark.parametrize("seed", range(20))
def test_several_energies(seed: int, freeze: bool, tmp_path: Path) -> None:
    (tmp_path / "drawn.crate").write_text(drawn(seed))
    torch.manual_seed(seed)
    module = crate_dsl.load(tmp_path / "drawn.crate", freeze=freeze).double()
    if hasattr(module, "fold"):
        module.fold()
    for precision in PRECISIONS:
        stays_near(module, precision)
