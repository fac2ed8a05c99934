"""The least time that the network's matrix products take: their operations over the rate measured at their shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional as F

from runtime.bench.race import Action
from runtime.products import Product, ProductShape

ALIGNED = 8  # sizes of a GPU's fast products are multiples: those of 197 tokens are measured at 200, counted at 197
LARGEST = 1 << 26  # entries of a result at which a rate is measured; more copies of a product run at the same rate


@dataclass(frozen=True)
class Floor:
    """Seconds of a forward pass and of a training step, with operations, and operations per second by shape."""

    forward: float
    training: float
    forward_flops: int
    training_flops: int
    rates: Mapping[ProductShape, float]


def floor(products: Sequence[Product], seconds: Mapping[ProductShape, Sequence[float]]) -> Floor:
    """From seconds of one call of every shape, in every round."""
    rates = {shape: operations(shape) / median(values) for shape, values in seconds.items()}
    return Floor(
        forward=sum(p.flops / rates[p.shape] for p in products),
        training=sum((1 + p.backward) * p.flops / rates[p.shape] for p in products),
        forward_flops=sum(p.flops for p in products),
        training_flops=sum((1 + p.backward) * p.flops for p in products),
        rates=rates,
    )


def operations(shape: ProductShape) -> int:
    return 2 * measured_copies(shape) * shape.rows * shape.inner * shape.columns


def measured_copies(shape: ProductShape) -> int:
    return max(1, min(shape.copies, LARGEST // (shape.rows * shape.columns)))


def calls(shapes: Sequence[ProductShape], dtype: torch.dtype, device: torch.device) -> dict[ProductShape, Action]:
    """What is timed to know the rates: one linear layer, or products of stacks of matrices."""
    return {shape: call(shape, dtype, device) for shape in dict.fromkeys(shapes)}


def call(shape: ProductShape, dtype: torch.dtype, device: torch.device) -> Action:
    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, dtype=dtype, device=device)

    if shape.copies == 1:
        tokens, weight = normal(shape.rows, shape.inner), normal(shape.columns, shape.inner)
        return lambda: F.linear(tokens, weight)
    copies, step = measured_copies(shape), ALIGNED if device.type == "cuda" else 1
    rows, inner, columns = (-(-size // step) * step for size in (shape.rows, shape.inner, shape.columns))
    left, right = normal(copies, rows, inner), normal(copies, inner, columns)
    return lambda: left @ right
