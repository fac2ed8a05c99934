"""Digits laid over photographs: classes whose place in every image is known, without a download.

Where attention looks can be compared with where the object is, as segmentation masks allow it (Yu et al. 2023,
arXiv 2308.16271, on PASCAL VOC): the photograph says nothing of the class, so a network has to find the digit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from runtime import seeds
from runtime.data.digits import halves
from runtime.data.photographs import Photographs
from runtime.data.source import Batch, Images, Splits
from runtime.network import Shape

PAPER, INK = 0.3, 0.6  # share of ink up to which a digit is transparent, and from which on it is opaque


class Composites(Photographs):
    """Every image is a crop of a photograph, as that source makes them, with one digit at a random place.

    The digit's side is `smallest` to `largest` of the image's, in whole pixels. Photographs are shown at `dim` of their
    brightness, and the digit has a random light colour, every channel of which is brighter than all of them. Training
    and held-out digits are those of the source `digits`; there are `held_out_images`, on the grid of `held_out_crops`
    as often as it takes.
    """

    name: Literal["composites"] = "composites"
    smallest: float = Field(default=0.6, gt=0, le=1)
    largest: float = Field(default=0.9, gt=0, le=1)
    dim: float = Field(default=0.6, ge=0, lt=1)
    crops: int = Field(default=8192, gt=0)
    held_out_images: int = Field(default=720, gt=0)

    @model_validator(mode="after")
    def ordered(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(f"smallest is {self.smallest} and must not be more than largest, {self.largest}")
        return self

    def open(self, shape: Shape) -> Splits:
        backgrounds, short = super().open(shape), min(shape.height, shape.width)
        sides = max(1, round(self.smallest * short)), max(1, round(self.largest * short))
        train, held_out = (((images + 1) / 2, labels, sides, self.dim) for images, labels in halves())
        return Splits(
            Composed(self.crops, backgrounds.train, *train),
            Composed(self.held_out_images, backgrounds.held_out, *held_out),
            classes=10,
        )


@dataclass(frozen=True)
class Placed:
    """One digit in the frame of an image: `cover` (height, width) in [0, 1], `colour` (channels, 1, 1) in [-1, 1]."""

    cover: Tensor
    colour: Tensor

    @property
    def mask(self) -> Tensor:
        return self.cover > 0

    def over(self, image: Tensor) -> Tensor:
        """The image (channels, height, width) with the digit on it; pixels outside of the mask stay as they are."""
        return torch.where(self.mask, image + self.cover * (self.colour - image), image)


@dataclass(frozen=True)
class Composed:
    """`count` images: the i-th is background i with digit i of `ink`, (digits, 1, 8, 8) in [0, 1], both cyclically.

    Size, place and colour of the digit are f(seed, epoch, i), and f(i) where nothing is varied, as in held-out data.
    """

    count: int
    backgrounds: Images
    ink: Tensor
    labels: Tensor
    sides: tuple[int, int]
    dim: float

    def __len__(self) -> int:
        return self.count

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        images = [placed.over(image) for placed, image in self.parts(indices, draw)]
        return Batch(torch.stack(images), self.labels[torch.as_tensor(list(indices)) % len(self.labels)])

    def masks(self, indices: Sequence[int]) -> Tensor:
        """(indices, height, width), true where a digit covers the photograph; of the images that are not varied."""
        return torch.stack([placed.mask for placed, _ in self.parts(indices, None)])

    def parts(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Iterator[tuple[Placed, Tensor]]:
        """The digit and the background of every image."""
        behind = self.backgrounds.take([index % len(self.backgrounds) for index in indices], draw).images
        for index, image in zip(indices, (behind + 1) * self.dim - 1, strict=True):
            yield self.placed(int(index), image, draw), image

    def placed(self, index: int, image: Tensor, draw: tuple[int, int] | None) -> Placed:
        generator = seeds.numpy_generator(seeds.COMPOSE, *(draw or (0, 0)), index)
        side = int(generator.integers(self.sides[0], self.sides[1], endpoint=True))
        top, left = (int(generator.integers(size - side, endpoint=True)) for size in image.shape[1:])
        cover = image.new_zeros(image.shape[1:])
        cover[top : top + side, left : left + side] = covered(self.ink[index % len(self.ink)], side)
        light = generator.uniform(self.dim, 1, size=(len(image), 1, 1))  # photographs end at 2 dim - 1
        return Placed(cover, torch.as_tensor(light, dtype=image.dtype))


def covered(ink: Tensor, side: int) -> Tensor:
    """How far a digit (1, 8, 8) of `side` pixels hides what is behind it, (side, side) in [0, 1].

    Bilinear in between; less than one of 256 levels is nothing, so that what is covered has changed.
    """
    smooth = F.interpolate(ink[None], size=(side, side), mode="bilinear")[0, 0]
    cover = ((smooth - PAPER) / (INK - PAPER)).clamp(0, 1)
    return torch.where(cover < 1 / 256, 0, cover)
