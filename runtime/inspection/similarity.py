"""How alike two sets of tokens are: token by token, up to one scale, and up to rotations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def cosines(first: Tensor, second: Tensor) -> Tensor:
    """The cosine of every token with its counterpart; tokens (..., d), result (...)."""
    return F.cosine_similarity(first, second, dim=-1)


def scaled_error(wanted: Tensor, found: Tensor) -> float:
    """min over a of |wanted - a found| / |wanted| with Frobenius norms: one scale for all tokens together.

    0 where they are proportional, 1 where they are orthogonal or `found` is zero; not a number where `wanted` is zero.
    """
    wanted, found = wanted.double(), found.double()
    scale = (wanted * found).sum() / found.square().sum().clamp_min(torch.finfo(found.dtype).tiny)
    return float(torch.linalg.vector_norm(wanted - scale * found) / torch.linalg.vector_norm(wanted))


def alignment(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Linear centred kernel alignment of every one of `first` with every one of `second` (Kornblith et al. 2019).

    Each is (samples, features), the same samples in the same order; the result is (len(first), len(second)), float64:
    |Y'X|^2 / (|X'X| |Y'Y|) with Frobenius norms, of X and Y with the mean over the samples taken off. It is 1 where
    they agree up to a rotation and a scale. Not a number where all samples are the same.
    """
    rows, columns = ([each - each.mean(dim=0) for each in group] for group in (first, second))
    own_rows, own_columns = ([shared(each, each) ** 0.5 for each in group] for group in (rows, columns))
    found = torch.tensor([[shared(x, y) for y in columns] for x in rows], dtype=torch.float64)
    norms = torch.tensor(own_rows, dtype=torch.float64).unsqueeze(1) * torch.tensor(own_columns, dtype=torch.float64)
    return found / norms


def shared(x: Tensor, y: Tensor) -> float:
    """|y'x|^2, by way of the smaller matrices."""
    if len(x) < min(x.shape[1], y.shape[1]):
        return float(((x @ x.mT).double() * (y @ y.mT)).sum())
    return float((y.mT @ x).double().square().sum())
