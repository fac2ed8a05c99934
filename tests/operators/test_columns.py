"""Which steps treat every token by itself, so that a language model of them is causal and runs token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import crate_dsl

TEXT = """network Projected
size d = 6, K = 2, p = 3
energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))
input text(5, 7)
tokens Z: d x N = embedding + position(learned)
encoder repeat 2 {{
    compress Z by rate(Z, U) {{ causal; norm layer }}
    {projection}
}}
head vocabulary(tied)
"""


@pytest.mark.parametrize("projection", ["project sphere", "project simplex"])
def test_a_projection_is_causal(projection: str, tmp_path: Path) -> None:
    spec = tmp_path / "projected.crate"
    spec.write_text(TEXT.format(projection=projection))
    torch.manual_seed(0)
    network = crate_dsl.load(spec).double()
    assert network.causal
    text, memory = torch.randint(7, (2, 5)), {}
    found = torch.cat([network.advance(text[:, t : t + 1], memory) for t in range(5)], dim=1)
    torch.testing.assert_close(found, network(text), rtol=1e-10, atol=1e-10)
