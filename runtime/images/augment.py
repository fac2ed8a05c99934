"""From a decoded picture of any size to a tensor of the size that the network reads."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from PIL import Image
from pydantic import Field, PositiveFloat, field_validator
from torch import Tensor

from runtime.errors import UserError
from runtime.network import Shape
from runtime.registry import Strict

Share = Annotated[float, Field(gt=0, le=1)]
RATIOS = (3 / 4, 4 / 3)  # width to height of a random crop, as in torchvision
EDGE = 256 / 224  # the shorter side of an evaluated picture, relative to the crop from its centre
LONG = 8  # times the ratio of the crop, beyond which the ends of a picture are cut off before it is resized


class Preparation(Strict):
    """Random resized crop and mirror image for training, centre crop for evaluation, and the scaling of values.

    `scale` is the area of a random crop relative to the picture; values become (value - mean) / std with value in
    [0, 1]. The defaults give [-1, 1]; the statistics of ImageNet are (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225).
    """

    scale: tuple[Share, Share] = (0.08, 1.0)
    mirror: bool = True
    mean: tuple[float, ...] = Field(default=(0.5,), min_length=1)
    std: tuple[PositiveFloat, ...] = Field(default=(0.5,), min_length=1)

    @field_validator("scale")
    @classmethod
    def ordered(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError(f"{scale[0]:g} is above {scale[1]:g}; the smaller comes first")
        return scale

    def tensor(self, picture: Image.Image, shape: Shape, generator: np.random.Generator | None) -> Tensor:
        """(channels, height, width); `generator` None gives the deterministic centre crop."""
        picture = picture.convert("L" if shape.channels == 1 else "RGB")
        crop = centre(picture, shape) if generator is None else self.random_crop(picture, shape, generator)
        values = torch.as_tensor(np.atleast_3d(np.asarray(crop)).copy()).permute(2, 0, 1).float() / 255
        return self.scaled(values)

    def scaled(self, images: Tensor) -> Tensor:
        """Values in [0, 1], any number of images, as the network reads them."""
        mean, std = self.statistics(images)
        return (images - mean) / std

    def displayed(self, images: Tensor) -> Tensor:
        """The inverse of `scaled`."""
        mean, std = self.statistics(images)
        return (images * std + mean).clamp(0, 1)

    def statistics(self, images: Tensor) -> tuple[Tensor, Tensor]:
        for name, each in (("mean", self.mean), ("std", self.std)):
            if len(each) not in (1, images.shape[-3]):
                raise UserError(
                    f"preparation.{name}: {len(each)} values, but pictures have {images.shape[-3]} channels: "
                    "one for all is needed, or one for each"
                )
        mean, std = (torch.tensor(each, device=images.device).view(-1, 1, 1) for each in (self.mean, self.std))
        return mean, std

    def random_crop(self, picture: Image.Image, shape: Shape, generator: np.random.Generator) -> Image.Image:
        crop = picture.resize(
            (shape.width, shape.height), Image.Resampling.BICUBIC, self.random_box(picture, generator)
        )
        mirrored = self.mirror and generator.random() < 0.5
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop

    def random_box(self, picture: Image.Image, generator: np.random.Generator) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of a box of random area and ratio; after ten tries the largest one in the middle.

        As in torchvision, so that long pictures are not squeezed.
        """
        for _ in range(10):
            area = picture.width * picture.height * generator.uniform(*self.scale)
            ratio = float(np.exp(generator.uniform(*np.log(RATIOS))))
            width, height = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if 0 < width <= picture.width and 0 < height <= picture.height:
                left = int(generator.integers(picture.width - width + 1))
                top = int(generator.integers(picture.height - height + 1))
                return left, top, left + width, top + height
        width = min(picture.width, round(picture.height * RATIOS[1]))
        height = min(picture.height, round(picture.width / RATIOS[0]))
        left, top = (picture.width - width) // 2, (picture.height - height) // 2
        return left, top, left + width, top + height


def centre(picture: Image.Image, shape: Shape) -> Image.Image:
    """The middle of the picture, its shorter side as long as that of the crop times EDGE."""
    picture = shortened(picture, shape)
    factor = max(shape.width / picture.width, shape.height / picture.height) * EDGE
    width, height = round(picture.width * factor), round(picture.height * factor)
    left, top = (width - shape.width) // 2, (height - shape.height) // 2
    resized = picture.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + shape.width, top + shape.height))


def shortened(picture: Image.Image, shape: Shape) -> Image.Image:
    """The middle of a very long picture: resized as a whole, one row of 60,000 pixels would have a billion."""
    width = min(picture.width, math.ceil(LONG * picture.height * shape.width / shape.height))
    height = min(picture.height, math.ceil(LONG * picture.width * shape.height / shape.width))
    if (width, height) == picture.size:
        return picture
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))
