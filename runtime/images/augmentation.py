"""Augmentation of whole batches on the network's device: colour, RandAugment, erasing, mixup and cutmix.

Crops and mirror images are made where pictures are decoded (`images/augment.py`), since files differ in size. All
numbers are drawn for the whole global batch, as a function of seed and step, and a share takes its rows of them: what
becomes of an image depends neither on the number of processes nor on accumulation.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from runtime import seeds
from runtime.data.source import Batch, DataSource
from runtime.errors import UserError
from runtime.images import operations
from runtime.images.operations import by_choice
from runtime.registry import Strict

# RandAugment's operations with their greatest strength, and whether its sign is drawn: the fourteen and the ranges of
# torchvision.transforms.RandAugment.
RANDAUGMENT = (
    (operations.nothing, 0.0, False),
    (operations.shear(0), 0.3, True),
    (operations.shear(1), 0.3, True),
    (operations.translate(0), 150 / 331, True),
    (operations.translate(1), 150 / 331, True),
    (operations.rotate, 30.0, True),
    (operations.brightness, 0.9, True),
    (operations.saturation, 0.9, True),
    (operations.contrast, 0.9, True),
    (operations.sharpness, 0.9, True),
    (operations.posterize, 4.0, False),
    (operations.solarize, 1.0, False),
    (operations.auto_contrast, 0.0, False),
    (operations.equalize, 0.0, False),
)
LEVELS = 30  # the magnitude m of RandAugment at which strengths are greatest
JITTER = (operations.brightness, operations.contrast, operations.saturation, operations.hue)
ERASED_AREA, ERASED_RATIO = (0.02, 1 / 3), (0.3, 3.3)  # of the image; height to width
COLOUR, RANDOM, ERASE, MIX = range(4)  # one stream of numbers per stage


class Augmentation(Strict):
    """What happens to a batch of training images after decoding, in this order; nothing by default.

    `brightness`, `contrast`, `saturation` (factors of 1 +- the value) and `hue` (turns of the colour circle) jitter the
    colour, in an order of its own for every image. `randaugment: [n, m]` applies n of fourteen operations at magnitude
    m of 30 (Cubuk et al. 2019; ranges of torchvision: the m of 10 of the original code and of timm is a third of it);
    black comes in from outside. `erasing` is the probability that a rectangle becomes the mean value (Zhong et al.
    2017; 0 in scaled values, as in torchvision). `mixup` (Zhang et al. 2017) and `cutmix` (Yun et al. 2019) are the
    alpha of Beta(alpha, alpha): an image is blended with its neighbour in the shuffled batch, i with i XOR 1, or has a
    box of it; with both, each image takes one of them at even odds. Labels become probabilities.
    """

    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=1)
    saturation: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)
    randaugment: tuple[int, int] | None = None
    erasing: float = Field(default=0.0, ge=0, le=1)
    mixup: float = Field(default=0.0, ge=0)
    cutmix: float = Field(default=0.0, ge=0)

    @field_validator("randaugment")
    @classmethod
    def in_range(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value and not (value[0] >= 1 and 0 <= value[1] <= LEVELS):
            raise ValueError(f"[n, m] with n of at least 1 and m of 0 to {LEVELS}")
        return value

    @property
    def mixes(self) -> bool:
        return bool(self.mixup or self.cutmix)

    @property
    def jitter(self) -> tuple[float, float, float, float]:
        return self.brightness, self.contrast, self.saturation, self.hue

    def fault(self, share: int) -> str | None:
        """What is wrong with these options for batches in shares of so many images."""
        if self.mixes and share % 2:
            return f"mixup and cutmix pair the images of a share, {share} is odd: change batch, accumulate or processes"
        return None

    def apply(
        self, batch: Batch, source: DataSource, key: tuple[int, int], rows: slice, total: int, classes: int | None
    ) -> Batch:
        """The rows `rows` of the augmented global batch of `total` images.

        Args:
            batch: these rows as the source gives them, images (batch, channels, height, width), on any device.
            source: knows how values are scaled.
            key: seed and step.
            rows: where the batch lies in the global one.
            classes: of the labels, for mixup and cutmix.

        Returns:
            Images of the same type; with mixup or cutmix labels (batch, classes) that sum to 1, else unchanged.

        Raises:
            UserError: options that do not fit the batch or the data.
        """
        if self == NOTHING:
            return batch
        if fault := self.fault(len(batch)):
            raise UserError(fault)
        images, draw = batch.images.float(), Draw(key, rows, total)
        if any(self.jitter) or self.randaugment:
            if images.shape[1] not in (1, 3):
                raise UserError(f"augmentation of colours takes images of 1 or 3 channels, not {images.shape[1]}")
            images = source.scaled(self.varied(source.displayed(images), draw))
        if self.erasing:
            images = erased(images, self.erasing, draw)
        labels = batch.labels
        if self.mixes:
            if labels is None or classes is None:
                raise UserError("augmentation: mixup and cutmix need data with classes")
            images, labels = self.mixed(images, F.one_hot(labels, classes).float(), draw)
        return Batch(images.to(batch.images.dtype), labels)

    def varied(self, images: Tensor, draw: Draw) -> Tensor:
        """Colour jitter and RandAugment of images in [0, 1]."""
        if any(self.jitter):
            numbers = draw.uniform(COLOUR, 2 * len(JITTER))
            order = numbers[:, : len(JITTER)].argsort(dim=1)
            strengths = (2 * numbers[:, len(JITTER) :] - 1) * torch.tensor(self.jitter)
            for chosen in order.T:
                images = by_choice(images, chosen, strengths.gather(1, chosen[:, None]).squeeze(1), JITTER)
        if self.randaugment:
            count, magnitude = self.randaugment
            functions, greatest, signed = zip(*RANDAUGMENT, strict=True)
            numbers = draw.uniform(RANDOM, 2 * count)
            for choice, sign in zip(numbers[:, :count].T, numbers[:, count:].T, strict=True):
                chosen = (choice * len(RANDAUGMENT)).long()
                signs = torch.where((sign < 0.5) & torch.tensor(signed)[chosen], -1.0, 1.0)
                images = by_choice(
                    images, chosen, signs * torch.tensor(greatest)[chosen] * magnitude / LEVELS, functions
                )
        return images

    def mixed(self, images: Tensor, labels: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Images with their neighbours, and labels (batch, classes) in the same proportion."""
        cut, row, column = (numbers.to(images)[:, None] for numbers in draw.uniform(MIX, 3).T)
        kept, kept_by_cut = (draw.beta(alpha).to(images)[:, None] for alpha in (self.mixup, self.cutmix))
        cut = cut < (0.5 if self.mixup and self.cutmix else float(bool(self.cutmix)))
        other = torch.arange(len(images), device=images.device) ^ 1
        side = (1 - kept_by_cut).sqrt()
        box = boxes(images, row, column, (side * images.shape[2]).floor(), (side * images.shape[3]).floor())
        weights = torch.where(cut[:, :, None, None], 1 - box, kept[:, :, None, None])
        share = weights.mean(dim=(2, 3))
        return (
            weights * images + (1 - weights) * images[other],
            share * labels + (1 - share) * labels[other],
        )


NOTHING = Augmentation()


class Draw:
    """The numbers of one step for the global batch, of which a share takes its rows; one stream per stage."""

    def __init__(self, key: tuple[int, int], rows: slice, total: int) -> None:
        self.key, self.rows, self.total = key, rows, total

    def uniform(self, stage: int, count: int) -> Tensor:
        """(rows, count) in [0, 1), on the CPU."""
        numbers = seeds.numpy_generator(seeds.BATCH, *self.key, stage).random((self.total, count), dtype=np.float32)
        return torch.as_tensor(numbers[self.rows])

    def beta(self, alpha: float) -> Tensor:
        """(rows,) from Beta(alpha, alpha); 1 where alpha is 0."""
        if not alpha:
            return torch.ones(len(range(*self.rows.indices(self.total))))
        generator = seeds.numpy_generator(seeds.BATCH, *self.key, MIX, 1)
        return torch.as_tensor(generator.beta(alpha, alpha, size=self.total)[self.rows]).float()


def erased(images: Tensor, probability: float, draw: Draw) -> Tensor:
    """Images with, perhaps, a rectangle of zeros."""
    happens, area, ratio, row, column = (numbers.to(images)[:, None] for numbers in draw.uniform(ERASE, 5).T)
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area) * images.shape[2] * images.shape[3]
    low, high = map(math.log, ERASED_RATIO)
    ratio = (low + (high - low) * ratio).exp()
    box = boxes(images, row, column, (area * ratio).sqrt().round(), (area / ratio).sqrt().round(), inside=True)
    return images * (1 - box * (happens < probability)[:, :, None, None])


def boxes(images: Tensor, row: Tensor, column: Tensor, height: Tensor, width: Tensor, inside: bool = False) -> Tensor:
    """1 in a rectangle of every image and 0 around it, (batch, 1, height, width); arguments (batch, 1).

    Its place is given by `row` and `column` in [0, 1): of its centre, anywhere, so that it may be cut off (as in
    cutmix); with `inside` of its corner, so that it lies in the image as a whole (as in random erasing).
    """

    def band(place: Tensor, size: Tensor, length: int) -> Tensor:
        size = size.clamp(max=length)
        start = (place * (length - size + 1)).floor() if inside else (place * length).floor() - (size / 2).floor()
        pixels = torch.arange(length, device=images.device)
        return ((pixels >= start) & (pixels < start + size)).to(images.dtype)

    down, across = band(row, height, images.shape[2]), band(column, width, images.shape[3])
    return (down[:, :, None] * across[:, None, :])[:, None]
