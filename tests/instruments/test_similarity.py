"""Similarities against their formulas in numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import lstsq, qr
from scipy.spatial.distance import cosine
from torch import Tensor

from runtime.inspection.similarity import alignment, cosines, scaled_error


def tokens(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hsic_alignment(x: np.ndarray, y: np.ndarray) -> float:
    """tr(KHLH) / sqrt(tr(KHKH) tr(LHLH)) with linear kernels, as Kornblith et al. 2019 state it (equation 3 and 4)."""
    n = len(x)
    centring = np.eye(n) - np.ones((n, n)) / n
    k, m = (centring @ (z @ z.T) @ centring for z in (x, y))
    return np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m))


@pytest.mark.parametrize(("samples", "first", "second"), [(40, 7, 5), (6, 9, 8), (6, 9, 3)])
def test_alignment_is_that_of_the_kernels(samples: int, first: int, second: int) -> None:
    rows = [tokens(samples, first, seed=1) + 3, tokens(samples, first, seed=2)]
    columns = [tokens(samples, second, seed=3), tokens(samples, second, seed=4) - 1, tokens(samples, second, seed=5)]
    found = alignment(rows, columns)
    expected = [[hsic_alignment(x.numpy(), y.numpy()) for y in columns] for x in rows]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10)


def test_alignment_is_blind_to_rotations_scales_and_shifts() -> None:
    x = tokens(30, 6)
    rotation = torch.as_tensor(qr(tokens(6, 6, seed=7).numpy())[0])
    assert alignment([x], [3 * x @ rotation + 2]).item() == pytest.approx(1, abs=1e-12)
    assert alignment([x], [x @ tokens(6, 6, seed=8)]).item() < 0.99


def test_error_after_the_best_scale_is_that_of_least_squares() -> None:
    wanted, found = tokens(3, 4, 5, seed=1), tokens(3, 4, 5, seed=2) + 0.3
    scale, *_ = lstsq(found.numpy().reshape(-1, 1), wanted.numpy().ravel())
    rest = np.linalg.norm(wanted.numpy().ravel() - scale[0] * found.numpy().ravel()) / np.linalg.norm(wanted.numpy())
    assert scaled_error(wanted, found) == pytest.approx(rest, rel=1e-10)
    assert scaled_error(wanted, -2 * wanted) == pytest.approx(0, abs=1e-12)
    assert scaled_error(wanted, torch.zeros_like(wanted)) == 1


def test_cosines_are_those_of_each_token() -> None:
    x, y = tokens(2, 3, 5, seed=1), tokens(2, 3, 5, seed=2)
    expected = [[1 - cosine(a, b) for a, b in zip(*rows, strict=True)] for rows in zip(x, y, strict=True)]
    np.testing.assert_allclose(cosines(x, y).numpy(), expected, rtol=1e-10)
