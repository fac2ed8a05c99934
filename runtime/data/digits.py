"""scikit-learn's handwritten digits: 1,797 images of 8 x 8, shipped with the library, no download."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor
from torch.nn import functional as F

from runtime import seeds
from runtime.data.source import Batch, DataSource, InMemory, Splits, require_shape
from runtime.network import Shape


class Digits(DataSource):
    """A fifth of the digits, the same in every run and with every digit equally often, is held out.

    Training digits are turned by up to `turn` degrees, scaled by up to 1 +- `zoom` and moved by up to `shift` pixels.
    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
    """

    name: Literal["digits"] = "digits"
    turn: float = Field(default=0.0, ge=0, le=180)
    zoom: float = Field(default=0.0, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0, le=4)
    enlarge: Literal[1, 2, 4] = 1

    def open(self, shape: Shape) -> Splits:
        """Images (1, 8, 8), or enlarged, with values 0..16 mapped to [-1, 1]."""
        side = 8 * self.enlarge
        require_shape("digits", Shape(1, side, side), shape)
        (images, labels), (held_out, held_out_labels) = halves()
        warped = Warped(self.enlarged(images), labels, math.radians(self.turn), self.zoom, self.shift / 4)
        return Splits(warped, InMemory(self.enlarged(held_out), held_out_labels), classes=10)

    def enlarged(self, images: Tensor) -> Tensor:
        side = 8 * self.enlarge
        return F.interpolate(images, size=(side, side), mode="bilinear")

    def prepared(self, picture: Image.Image, shape: Shape) -> Tensor:
        """The whole picture, grey, averaged to 8 x 8; as in the data, ink is bright."""
        small = picture.convert("L").resize((8, 8), Image.Resampling.BOX)
        values = torch.as_tensor(np.asarray(small).copy(), dtype=torch.float32) / 127.5 - 1
        images = self.enlarged(values[None, None])
        require_shape("digits", Shape(*images.shape[1:]), shape)
        return images[0]


def halves() -> list[tuple[Tensor, Tensor]]:
    """The training and the held-out digits: images (count, 1, 8, 8) in [-1, 1], ink is 1, and classes (count,)."""
    values, labels = load_digits(return_X_y=True)
    images = torch.as_tensor(values, dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    parts = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=labels)
    return [(images[part], torch.as_tensor(labels)[part]) for part in parts]


@dataclass(frozen=True)
class Warped(InMemory):
    """Images under random affine maps; angles in radians, moves in half widths of the image."""

    turn: float = 0.0
    zoom: float = 0.0
    shift: float = 0.0

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        batch = super().take(indices, None)
        if draw is None or not (self.turn or self.zoom or self.shift):
            return batch
        numbers = np.array([seeds.augmentation(draw, index).uniform(-1, 1, size=4) for index in indices])
        turn, zoom, *shift = torch.as_tensor(numbers, dtype=torch.float32).T
        turn, zoom = turn * self.turn, 1 + zoom * self.zoom
        rows = torch.stack([zoom * turn.cos(), -zoom * turn.sin(), self.shift * shift[0]], dim=1)
        columns = torch.stack([zoom * turn.sin(), zoom * turn.cos(), self.shift * shift[1]], dim=1)
        grid = F.affine_grid(torch.stack([rows, columns], dim=1), list(batch.images.shape), align_corners=False)
        # Shifted up by one and back, so that what comes in from outside is the background, -1.
        return Batch(F.grid_sample(batch.images + 1, grid, align_corners=False) - 1, batch.labels)
