"""Where batch, heads and features happen to be as many, nothing is broadcast along another axis."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import crate_dsl

SPEC = """network Alike
size d = 3, K = 3, p = 3
energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))
input vectors(d, {tokens})
tokens Z: d x N = vectors
encoder repeat 2 {{
    learn kappa > 0 = 0.3 per head
    compress Z by rate(Z, U) {{ {step} }}
}}
head tokens
"""
STEPS = {
    "tied": "norm layer; step kappa",
    "freed": "norm layer; step kappa; adjoint ~ free(bias)",
    "without a norm": "step kappa",
}


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("tokens", [3, 9])
@pytest.mark.parametrize("step", STEPS)
def test_a_batch_is_its_samples_one_by_one(step: str, tokens: int, freeze: bool, tmp_path: Path) -> None:
    (tmp_path / "alike.crate").write_text(SPEC.format(step=STEPS[step], tokens=tokens))
    torch.manual_seed(0)
    network = crate_dsl.load(tmp_path / "alike.crate", freeze=freeze).double()
    vectors = torch.randn(3, tokens, 3, dtype=torch.float64)
    alone = torch.cat([network(vector) for vector in vectors.split(1)])
    torch.testing.assert_close(network(vectors), alone, rtol=1e-10, atol=1e-10)
