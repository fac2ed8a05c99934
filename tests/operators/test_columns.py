"""Which steps treat every token by itself, so that a language model of them is causal and runs token by token."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import crate_dsl
from tests.pytorch.running import in_parts

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
    text = torch.randint(7, (2, 5))
    for sizes in ((1,) * 5, (5,), (2, 3)):
        torch.testing.assert_close(in_parts(network.advance, text, *sizes), network(text), rtol=1e-10, atol=1e-10)
