"""Token statistics self-attention as the code of ToST computes it (Wu et al. 2025, arXiv 2412.17810), heads split.

Tokens w are (batch, heads, N, p), as projected; results have the same shape, before the read-out. Written by hand after
tost_vision/tost.py and tost_lang/model_TSSA.py.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

SMALL = 1e-8  # beside the mass of a head
LEAST_NORM = 1e-24  # of a prefix, squared


def token_statistics(w: Tensor, temperature: float = 1.0) -> Tensor:
    """Every token scaled by its head's second moments over all tokens: linear in their number."""
    membership = (temperature * F.normalize(w, dim=-2).square().sum(-1)).softmax(dim=1)  # (batch, heads, N)
    weights = membership / (membership.sum(dim=-1, keepdim=True) + SMALL)
    moments = weights.unsqueeze(-2) @ w.square()  # (batch, heads, 1, p)
    return -(w * membership.unsqueeze(-1)) * (1 / (1 + moments))


def causal_token_statistics(w: Tensor, temperature: float | Tensor = 1.0, bias: Tensor | None = None) -> Tensor:
    """Token t by the statistics of the tokens 1..t, by running sums.

    A temperature for every head is (heads, 1, 1); a bias of the memberships, for every head and place, (heads, N, 1).
    """
    squares = w.square()
    units = squares / squares.cumsum(-2).clamp_min(LEAST_NORM)
    units = units if bias is None else units + bias
    membership = (temperature * units.sum(-1, keepdim=True)).softmax(dim=1)  # (batch, heads, N, 1)
    moments = (squares * membership).cumsum(-2) / (membership.cumsum(-2) + SMALL)  # (batch, heads, N, p)
    return -(w * membership) * (1 / (1 + moments))
