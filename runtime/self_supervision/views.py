"""Several views of every image, made of tensors on the network's device: crops, small turns, changes of colour.

All numbers come from one draw, a function of seed and step; an image's share of it is its row.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn import functional as F

from runtime.network import Shape
from runtime.registry import Strict

GLOBAL = 2  # views that the teacher sees
PLACE, COLOUR = 7, 3  # uniform numbers per view: area, ratio, two of the centre, turn, shear, mirror; three of colour


class Views(Strict):
    """Two global views and `local` local ones, all resized to the network's one image size.

    `global_area` and `local_area` are the area of the crop relative to the image, above 1 with a margin around it;
    `ratio` its width to height. Views are turned by up to `turn` degrees, sheared by up to `shear`, mirrored half of
    the time with `mirror`; outside the image lies `fill`, or its edge repeated where that is null. Their contrast is
    scaled by up to 1 +- `contrast`, their brightness moved by up to `brightness`, colour taken away with probability
    `grey`, and noise of standard deviation `noise` added, in units of the images (usually [-1, 1]).
    """

    local: int = Field(default=6, ge=0)
    global_area: tuple[float, float] = (0.4, 1.0)
    local_area: tuple[float, float] = (0.05, 0.4)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    turn: float = Field(default=0.0, ge=0, le=180)
    shear: float = Field(default=0.0, ge=0, le=1)
    mirror: bool = True
    fill: float | None = None
    contrast: float = Field(default=0.4, ge=0, le=1)
    brightness: float = Field(default=0.4, ge=0)
    grey: float = Field(default=0.2, ge=0, le=1)
    noise: float = Field(default=0.0, ge=0)

    @field_validator("global_area", "local_area", "ratio")
    @classmethod
    def ordered(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if not 0 < bounds[0] <= bounds[1]:
            raise ValueError("bounds are positive, the smaller one first")
        return bounds

    @property
    def count(self) -> int:
        return GLOBAL + self.local

    def draw(self, images: int, shape: Shape, generator: torch.Generator) -> Tensor:
        """The randomness of the views of so many images, (images, views, numbers)."""
        uniform = torch.rand(images, self.count, PLACE + COLOUR, generator=generator)
        if not self.noise:
            return uniform
        pixels = shape.channels * shape.height * shape.width
        return torch.cat((uniform, torch.randn(images, self.count, pixels, generator=generator)), dim=2)

    def of(self, images: Tensor, draw: Tensor) -> Tensor:
        """The views of images (batch, channels, height, width), (views, batch, channels, height, width)."""
        numbers = draw.transpose(0, 1)  # views first
        place, colour, noise = numbers.split((PLACE, COLOUR, numbers.shape[2] - PLACE - COLOUR), dim=2)
        views = self.coloured(self.cropped(images, place), colour)
        return views + self.noise * noise.view_as(views) if self.noise else views

    def cropped(self, images: Tensor, place: Tensor) -> Tensor:
        size = [len(place) * len(images), *images.shape[1:]]
        grid = F.affine_grid(self.maps(place).flatten(0, 1), size, align_corners=False)
        repeated = images.repeat(len(place), 1, 1, 1)
        if self.fill is None:
            crops = F.grid_sample(repeated, grid, padding_mode="border", align_corners=False)
        else:  # moved so that what lies outside, 0 to torch, is the fill
            crops = F.grid_sample(repeated - self.fill, grid, align_corners=False) + self.fill
        return crops.unflatten(0, (len(place), len(images)))

    def maps(self, place: Tensor) -> Tensor:
        """Affine maps from a view's coordinates to the image's, both [-1, 1]: (views, batch, 2, 3)."""
        area, ratio, right, lower, turn, shear, mirror = place.unbind(-1)
        low, high = (place.new_tensor(bounds).view(-1, 1) for bounds in self.areas())
        area = low + (high - low) * area
        log_ratio = math.log(self.ratio[0]) + (math.log(self.ratio[1]) - math.log(self.ratio[0])) * ratio
        widest = area.sqrt().clamp(min=1.0)  # a long crop does not reach out of the image
        width = torch.minimum((area * log_ratio.exp()).sqrt(), widest)
        height = torch.minimum((area / log_ratio.exp()).sqrt(), widest)
        centre = torch.stack(((2 * right - 1) * (1 - width).abs(), (2 * lower - 1) * (1 - height).abs()), dim=-1)
        flip = torch.where((mirror < 0.5) & self.mirror, -1.0, 1.0)
        angle, slant = (2 * turn - 1) * math.radians(self.turn), (2 * shear - 1) * self.shear
        cosine, sine = angle.cos(), angle.sin()
        across = torch.stack((flip * width * cosine, flip * width * sine), dim=-1)
        down = torch.stack((height * (slant * cosine - sine), height * (slant * sine + cosine)), dim=-1)
        return torch.stack((across, down, centre), dim=-1)

    def areas(self) -> tuple[list[float], list[float]]:
        """The smallest and the largest area of every view."""
        bounds = [self.global_area] * GLOBAL + [self.local_area] * self.local
        return [low for low, _ in bounds], [high for _, high in bounds]

    def coloured(self, views: Tensor, colour: Tensor) -> Tensor:
        """Contrast about the view's own mean, then brightness, then perhaps the average of the channels."""
        contrast, brightness, grey = colour.view(*colour.shape, 1, 1, 1).unbind(2)
        mean = views.mean(dim=(2, 3, 4), keepdim=True)
        views = mean + (1 + (2 * contrast - 1) * self.contrast) * (views - mean)
        views = views + (2 * brightness - 1) * self.brightness
        return torch.where(grey < self.grey, views.mean(dim=2, keepdim=True), views)
