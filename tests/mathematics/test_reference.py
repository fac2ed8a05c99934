"""The point at which approximations are measured has the shapes that the spec states."""

from __future__ import annotations

import numpy as np
import pytest

from crate_dsl.mathematics.certify import certify
from crate_dsl.mathematics.reference import orthonormal_family
from tests.specs import derived

WIDE = """network Wide
size d = 6, K = 2, p = 8, N = 5
energy e(Z: d x N, U: K of d x p) = {energy}
input vectors(d, N)
tokens Z: d x N = vectors
encoder repeat 1 {{
    learn g: d x 1 = constant(0.1)
    compress Z by e(Z, U) {{ step g }}
}}
head tokens
"""


@pytest.mark.parametrize(("members", "rows", "cols"), [(2, 6, 3), (3, 6, 4), (2, 6, 6), (2, 6, 8), (1, 1, 3)])
def test_members_are_orthonormal_and_as_wide_as_stated(members: int, rows: int, cols: int) -> None:
    family = orthonormal_family(members, rows, cols, np.random.default_rng(0))
    assert family.shape == (members, rows, cols)
    for member in family:
        gram = member.T @ member if cols <= rows else member @ member.T
        np.testing.assert_allclose(gram, np.eye(min(rows, cols)), atol=1e-12)


@pytest.mark.parametrize(
    "energy", ["sum(k in K) total(column_norms(U[k]' * Z))", "sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))"]
)
def test_members_wider_than_tokens_are_certified(energy: str) -> None:
    derivation = derived(WIDE.format(energy=energy))
    assert all(finding.passed is not False for finding in certify(derivation))
