"""Crops of the photographs that lie inside scikit-image's wheel: real pictures without a download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import skimage.data
import torch
from torch import Tensor
from torch.nn import functional as F

from runtime import seeds
from runtime.data.source import Batch, DataSource, InMemory, Splits
from runtime.errors import UserError
from runtime.network import Shape

Photograph = Literal[
    "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "moon", "motorcycle", "rocket"
]


class Photographs(DataSource):
    """Random crops, mirrored half of the time, of `train`; a fixed grid of crops of `held_out`.

    `shrink`: the photographs are used at 1/2, 1/4 ... of their size, so that a small crop shows more than one surface.
    `crops` is the length of an epoch; `held_out_crops` bounds the grid.
    """

    name: Literal["photographs"] = "photographs"
    train: tuple[Photograph, ...] = ("astronaut", "coffee", "rocket", "motorcycle", "brick", "grass", "gravel", "coins")
    held_out: tuple[Photograph, ...] = ("chelsea", "camera")
    shrink: tuple[Literal[1, 2, 4, 8], ...] = (2, 4)
    crops: int = 8192
    held_out_crops: int = 512

    def open(self, shape: Shape) -> Splits:
        if both := set(self.train) & set(self.held_out):
            raise UserError(f"data.held_out: {', '.join(sorted(both))} is also in data.train")
        train, held_out = (
            [picture for name in names for picture in self.pictures(name, shape)]
            for names in (self.train, self.held_out)
        )
        if not train or not held_out:
            raise UserError(f"data photographs: none is as large as {shape}; make data.shrink or the image smaller")
        grid = torch.cat([tiles(picture, shape) for picture in held_out])
        # Spread over all pictures: every k-th tile of the grid.
        chosen = grid[:: max(1, len(grid) // self.held_out_crops)][: self.held_out_crops]
        return Splits(Crops(train, shape, self.crops), InMemory(chosen), classes=None)

    def pictures(self, name: Photograph, shape: Shape) -> list[Tensor]:
        """The photograph at every size at which a crop fits, (channels, height, width) in [-1, 1]."""
        full = read(name, shape.channels)
        sizes = [F.avg_pool2d(full, factor) if factor > 1 else full for factor in self.shrink]
        return [size for size in sizes if size.shape[1] >= shape.height and size.shape[2] >= shape.width]


def read(name: Photograph, channels: int) -> Tensor:
    """A photograph as (channels, height, width) in [-1, 1]; grey ones repeat, coloured ones average to one channel."""
    picture = torch.as_tensor(np.atleast_3d(pixels(name)).copy()).permute(2, 0, 1).float() / 127.5 - 1
    if channels == 1:
        return picture.mean(dim=0, keepdim=True)
    if channels == 3:
        return picture.expand(3, -1, -1) if len(picture) == 1 else picture
    raise UserError(f"data photographs has 1 or 3 channels, the network reads {channels}")


def pixels(name: Photograph) -> np.ndarray:
    """A photograph as its file has it, (height, width) or (height, width, 3), uint8."""
    return skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()


def tiles(picture: Tensor, shape: Shape) -> Tensor:
    """All crops of a grid without overlap, (count, channels, height, width)."""
    rows, columns = picture.shape[1] // shape.height, picture.shape[2] // shape.width
    cut = picture[:, : rows * shape.height, : columns * shape.width]
    split = cut.reshape(shape.channels, rows, shape.height, columns, shape.width)
    return split.permute(1, 3, 0, 2, 4).reshape(-1, shape.channels, shape.height, shape.width)


@dataclass(frozen=True)
class Crops:
    """`count` random crops per epoch, the i-th of which is f(seed, epoch, i)."""

    pictures: list[Tensor]
    shape: Shape
    count: int

    def __len__(self) -> int:
        return self.count

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        seed, epoch = draw or (0, 0)
        return Batch(torch.stack([self.crop(seeds.numpy_generator(seeds.AUGMENT, seed, epoch, i)) for i in indices]))

    def crop(self, generator: np.random.Generator) -> Tensor:
        weights = np.cumsum([picture[0].numel() for picture in self.pictures])  # large pictures hold more crops
        picture = self.pictures[int(np.searchsorted(weights, generator.random() * weights[-1], side="right"))]
        top = generator.integers(picture.shape[1] - self.shape.height + 1)
        left = generator.integers(picture.shape[2] - self.shape.width + 1)
        crop = picture[:, top : top + self.shape.height, left : left + self.shape.width]
        return crop.flip(2) if generator.random() < 0.5 else crop
