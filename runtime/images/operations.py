"""Changes of colour and place of a batch of images with values in [0, 1], every image by a strength of its own.

kornia's own `RandAugment` draws one sequence of operations per batch and its `ColorJitter` one order, so that rows of a
batch depend on each other; its functions take a strength per image.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor

# kornia, images (batch, channels, height, width) and strengths (batch,) to images of the same shape.
Operation = Callable[[ModuleType, Tensor, Tensor], Tensor]


def by_choice(images: Tensor, chosen: Tensor, strengths: Tensor, operations: Sequence[Operation]) -> Tensor:
    """Row i of `images` after `operations[chosen[i]]` with `strengths[i]`; both (batch,), on the CPU."""
    kornia, result = importlib.import_module("kornia"), images.clone()
    for number in chosen.unique().tolist():
        rows = (chosen == number).nonzero().squeeze(1)
        here = rows.to(images.device)
        result[here] = operations[number](kornia, images[here], strengths[rows].to(images))
    return result.clamp(0, 1)


def nothing(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    return images


def shear(axis: int) -> Operation:
    """Shears by `strengths`, relative to the first row or column, as PIL's affine maps do."""
    return lambda kornia, images, s: kornia.geometry.transform.shear(images, along(axis, s), align_corners=True)


def translate(axis: int) -> Operation:
    """Moves by `strengths`, in widths (axis 0) or heights (axis 1) of the image."""
    return lambda kornia, images, s: kornia.geometry.transform.translate(
        images, along(axis, s * images.shape[3 - axis])
    )


def along(axis: int, strengths: Tensor) -> Tensor:
    """Vectors (batch, 2) of x and y, one of which is 0."""
    still = torch.zeros_like(strengths)
    return torch.stack((strengths, still) if axis == 0 else (still, strengths), dim=1)


def rotate(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    """By degrees about the centre."""
    return kornia.geometry.transform.rotate(images, strengths)


def brightness(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    """By a factor, as PIL.ImageEnhance.Brightness; so the next three, of 1 + strength each."""
    return kornia.enhance.adjust_brightness_accumulative(images, 1 + strengths)


def contrast(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    return kornia.enhance.adjust_contrast_with_mean_subtraction(images, 1 + strengths)


def saturation(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    """Grey images stay as they are."""
    return kornia.enhance.adjust_saturation_with_gray_subtraction(images, 1 + strengths)


def sharpness(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    return kornia.enhance.sharpness(images, 1 + strengths)


def hue(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    """Turned by `strengths`, 1 being the whole circle; grey images stay as they are."""
    return images if images.shape[1] == 1 else kornia.enhance.adjust_hue(images, 2 * math.pi * strengths)


def posterize(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    """Without the last `strengths` (rounded) of the eight bits."""
    bits = 8 - strengths.round().long()
    return torch.where(bits.view(-1, 1, 1, 1) == 8, images, kornia.enhance.posterize(levels(images), bits))


def solarize(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    """Values of at least 1 - strength become 1 - value."""
    return kornia.enhance.solarize(images, 1 - strengths)


def auto_contrast(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    """Every channel stretched to [0, 1]; one of a single value stays."""
    flat = images.amax(dim=(2, 3), keepdim=True) == images.amin(dim=(2, 3), keepdim=True)
    return torch.where(flat, images, kornia.enhance.normalize_min_max(images))


def equalize(kornia: ModuleType, images: Tensor, strengths: Tensor) -> Tensor:
    """Every channel's histogram of 256 levels made flat, as PIL.ImageOps.equalize."""
    return kornia.enhance.equalize(levels(images))


def levels(images: Tensor) -> Tensor:
    """The nearest of 256 levels, and a quarter of one more: kornia cuts value * 255 off, which rounding may lower."""
    return ((images * 255).round() + 0.25) / 255
