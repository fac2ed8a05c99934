"""Positions for another image size: against `F.interpolate` as the masked autoencoder's code calls it, and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from runtime.weights.positions import Grid, interpolated, square_grid


def official(checkpoint: Tensor, orig_size: int, new_size: int, num_extra_tokens: int) -> Tensor:
    """util/pos_embed.py, `interpolate_pos_embed`, of facebookresearch/mae."""
    extra_tokens, pos_tokens = checkpoint[:, :num_extra_tokens], checkpoint[:, num_extra_tokens:]
    pos_tokens = pos_tokens.reshape(-1, orig_size, orig_size, checkpoint.shape[-1]).permute(0, 3, 1, 2)
    pos_tokens = F.interpolate(pos_tokens, size=(new_size, new_size), mode="bicubic", align_corners=False)
    pos_tokens = pos_tokens.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat((extra_tokens, pos_tokens), dim=1)


def cubic(t: float) -> float:
    """Keys' kernel with a = -3/4, torch's."""
    t, a = abs(t), -0.75
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def weights(old: int, new: int) -> Tensor:
    """(new, old): which old places a new one is made of, half-pixel centres, the border repeated."""
    matrix = torch.zeros(new, old, dtype=torch.float64)
    for row in range(new):
        place = (row + 0.5) * old / new - 0.5
        for near in range(int(place // 1) - 1, int(place // 1) + 3):
            matrix[row, min(max(near, 0), old - 1)] += cubic(place - near)
    return matrix


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize(("old", "new"), [(14, 24), (14, 8), (2, 5)])
def test_as_the_official_code(old: int, new: int, prefix: int) -> None:
    position = torch.randn(1, prefix + old * old, 12)
    found = interpolated(position, Grid(old, old), (new, new), prefix)
    assert torch.equal(found, official(position, old, new, prefix))
    assert torch.equal(found[:, :prefix], position[:, :prefix])


@pytest.mark.parametrize(("old", "new"), [((4, 6), (7, 3)), ((5, 2), (5, 4))])
def test_by_the_kernel(old: tuple[int, int], new: tuple[int, int]) -> None:
    """Rows and columns are not mixed up, with the kernel written out."""
    position = torch.randn(old[0] * old[1] + 1, 3, dtype=torch.float64)
    rows, columns = weights(old[0], new[0]), weights(old[1], new[1])
    wanted = torch.einsum("ra,cb,abd->rcd", rows, columns, position[1:].view(*old, 3)).flatten(0, 1)
    found = interpolated(position, old, new, 1)
    torch.testing.assert_close(found, torch.cat((position[:1], wanted)), rtol=0, atol=1e-12)


def test_the_same_grid_changes_nothing() -> None:
    position = torch.randn(1, 17, 8)
    assert interpolated(position, (4, 4), (4, 4), 1) is position


@pytest.mark.parametrize(("kind", "step"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-10)])
def test_narrow_types_are_summed_in_float32(kind: torch.dtype, step: float) -> None:
    position = torch.randn(1, 17, 8).to(kind)
    found, exact = interpolated(position, (4, 4), (6, 6), 1), interpolated(position.double(), (4, 4), (6, 6), 1)
    assert found.dtype == kind and bool(((found.double() - exact).abs() <= step * exact.abs() + 1e-6).all())


def test_wrong_counts_are_refused() -> None:
    for shape, prefix in (((1, 16, 8), 1), ((1, 17, 8), 0), ((17,), 1)):
        with pytest.raises(ValueError, match="rows, these are"):
            interpolated(torch.zeros(shape), (4, 4), (6, 6), prefix)


def test_square_grids() -> None:
    assert [square_grid(count) for count in (-1, 0, 1, 2, 196, 197)] == [None, None, (1, 1), None, (14, 14), None]
