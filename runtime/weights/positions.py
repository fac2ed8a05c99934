"""Positions of patches for images of another size."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Grid(NamedTuple):
    """Rows and columns of patches."""

    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.columns}"


def square_grid(count: int) -> Grid | None:
    """The grid of `count` patches of a square image; None where they fill no square."""
    side = isqrt(max(count, 0))
    return Grid(side, side) if side and side * side == count else None


def interpolated(position: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], prefix_tokens: int) -> Tensor:
    """Positions for another grid of patches, bicubic, as `util/pos_embed.py` of facebookresearch/mae does it.

    Args:
        position: (..., prefix_tokens + rows * columns, d), patches row by row behind the prefix, on `old_grid`.
        old_grid: rows and columns of patches of the images that the positions are for.
        new_grid: those of the images that they shall be for.
        prefix_tokens: tokens before the patches, such as the class token, whose positions stay as they are.

    Returns:
        (..., prefix_tokens + new rows * new columns, d), the very tensor where the grids agree. In a type narrower than
        float32 the sums are taken in float32.

    Raises:
        ValueError: where `position` has another number of tokens than the prefix and the old grid.
    """
    old, new = Grid(*old_grid), Grid(*new_grid)
    count = prefix_tokens + old.rows * old.columns
    if position.ndim < 2 or position.shape[-2] != count:
        found = " x ".join(map(str, position.shape))
        raise ValueError(f"positions of {prefix_tokens} and {old} tokens are {count} rows, these are {found}")
    if old == new:
        return position
    prefix, patches = position.split((prefix_tokens, count - prefix_tokens), dim=-2)
    wide = patches if patches.dtype == torch.float64 else patches.float()
    images = wide.reshape(-1, old.rows, old.columns, position.shape[-1]).permute(0, 3, 1, 2)
    images = F.interpolate(images, size=(new.rows, new.columns), mode="bicubic", align_corners=False)
    patches = images.permute(0, 2, 3, 1).flatten(1, 2).reshape(*position.shape[:-2], -1, position.shape[-1])
    return torch.cat((prefix, patches.to(position)), dim=-2)
