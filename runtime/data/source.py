"""What a data source is: options of a recipe that can be opened as training and held-out images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from runtime.errors import UserError
from runtime.network import Shape
from runtime.registry import Strict


@dataclass(frozen=True)
class Batch:
    """Images (batch, channels, height, width) and, where the data have classes, labels (batch,)."""

    images: Tensor
    labels: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return Batch(self.images.to(device, non_blocking=True), labels)

    def pin_memory(self) -> Batch:
        return Batch(self.images.pin_memory(), None if self.labels is None else self.labels.pin_memory())


class Images(Protocol):
    """A split of a data set, read by index."""

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        """The images of `indices`; `draw` = (seed, epoch) varies them by f(seed, epoch, index), None leaves them."""
        ...


@dataclass(frozen=True)
class Splits:
    train: Images
    held_out: Images
    classes: int | None

    def of(self, name: str) -> Images:
        return {"train": self.train, "held_out": self.held_out}[name]


class DataSource(Strict):
    """Options of one source; a subclass has a literal field `name` and says how it is opened."""

    @abstractmethod
    def open(self, shape: Shape) -> Splits:
        """The splits as images of `shape`; raises UserError where the data cannot give them."""

    def displayed(self, images: Tensor) -> Tensor:
        """Images with values in [0, 1], for pictures; sources scale to [-1, 1] unless they say otherwise."""
        return (images / 2 + 0.5).clamp(0, 1)


def require_shape(source: str, given: Shape, wanted: Shape) -> None:
    if given != wanted:
        hint = f"sizes.image={given.height} sizes.channels={given.channels}"
        raise UserError(f"data {source} has images of {given}, the network reads {wanted} (set, for instance, {hint})")


@dataclass(frozen=True)
class InMemory:
    """A small data set held as tensors: images (count, channels, height, width) and labels (count,)."""

    images: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        chosen = torch.as_tensor(list(indices))
        return Batch(self.images[chosen], None if self.labels is None else self.labels[chosen])
