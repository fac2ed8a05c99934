"""How the tensor of an official entry lies in a compiled network: pure rearrangements and signs, so nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Size, Tensor


@dataclass(frozen=True)
class Patch:
    """Rows, columns and channels of one patch."""

    rows: int
    columns: int
    channels: int


@dataclass(frozen=True)
class Layout:
    """`ours` takes an official tensor and the shape that is wanted; `official` goes back, bit for bit.

    A tensor that cannot be what is wanted is given back with its own sizes, for the caller to complain about.
    """

    ours: Callable[[Tensor, Size], Tensor]
    official: Callable[[Tensor, Patch | None], Tensor]


def reshaped(value: Tensor, wanted: Size) -> Tensor:
    return value.reshape(wanted) if value.numel() == wanted.numel() else value


def flattened(value: Tensor, wanted: Size) -> Tensor:
    """A patch convolution (d, channels, rows, columns) to (d, rows * columns * channels), the order inside a patch."""
    return value.permute(0, 2, 3, 1).flatten(1) if value.ndim == 4 else value


def convolved(value: Tensor, patch: Patch | None) -> Tensor:
    return value.unflatten(1, (patch.rows, patch.columns, patch.channels)).permute(0, 3, 1, 2) if patch else value


AS_IS = Layout(lambda value, _: value, lambda value, _: value)
# (d, K p) of a linear layer and the stacked transposes (K p, d) of a family; also (m, d) and a plain matrix (d, m)
TRANSPOSED = Layout(lambda value, _: value.T if value.ndim == 2 else value, lambda value, _: value.T)
NEGATED = Layout(lambda value, _: -value, lambda value, _: -value)
CONVOLUTION = Layout(flattened, convolved)
POINTWISE = Layout(  # a convolution (d, m, 1, 1) and a linear map (d, m)
    lambda value, _: value.flatten(1) if value.shape[2:] == (1, 1) else value, lambda value, _: value[..., None, None]
)
FAMILY_OF_VECTORS = Layout(reshaped, lambda value, _: value.flatten())  # (K p) and (K, p)
COLUMN = Layout(  # (..., 1) and (...)
    lambda value, _: value.squeeze(-1) if value.shape[-1:] == (1,) else value, lambda value, _: value.unsqueeze(-1)
)
TABLE = Layout(  # the rows of an embedding (N, d) and positions (1, N, d)
    lambda value, _: value.unsqueeze(0) if value.ndim == 2 else value, lambda value, _: value.squeeze(0)
)
