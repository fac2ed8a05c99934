"""What is said of tensors, and when two are the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MOST_LINES = 400


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same to the last bit, not-a-number and signs of zero included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    one, other = (value.contiguous().view(-1).view(torch.uint8) for value in (one, other))
    return torch.equal(one, other)


def listed(problems: Sequence[str]) -> str:
    """One problem a line, of very many the first."""
    more = f"\n  ... and {len(problems) - MOST_LINES:,} more" if len(problems) > MOST_LINES else ""
    return "\n  ".join(["", *problems[:MOST_LINES]]) + more


def shape_text(value: Tensor | Sequence[int]) -> str:
    sizes = value.shape if isinstance(value, Tensor) else value
    return " x ".join(map(str, sizes)) or "scalar"
