"""What a data source is: options of a recipe that can be opened as training and held-out inputs of a network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self, runtime_checkable

import torch
from PIL import Image
from torch import Tensor

from runtime.errors import Misfit, UserError
from runtime.images import pictures
from runtime.images.augment import Preparation
from runtime.network import InputShape, Shape
from runtime.registry import Strict
from runtime.text.alphabet import Alphabet


@dataclass(frozen=True)
class Batch:
    """What a network reads and, where the data have them, labels.

    Images (batch, channels, height, width) with classes (batch,) or, where images were mixed, the probability of every
    class (batch, classes); or token numbers (batch, N), each with the token that follows it (batch, N).
    """

    inputs: Tensor
    labels: Tensor | None = None

    @property
    def images(self) -> Tensor:
        """The inputs, for what knows that they are images."""
        return self.inputs

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device) -> Batch:
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return Batch(self.inputs.to(device, non_blocking=True), labels)

    def pin_memory(self) -> Batch:
        return Batch(self.inputs.pin_memory(), None if self.labels is None else self.labels.pin_memory())


class Images(Protocol):
    """A split of a data set, read by index."""

    def __len__(self) -> int: ...

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        """The inputs of `indices`; `draw` = (seed, epoch) varies them by f(seed, epoch, index), None leaves them."""
        ...


@runtime_checkable
class Masked(Protocol):
    """A split that knows where in each image the object is."""

    def masks(self, indices: Sequence[int]) -> Tensor:
        """(indices, height, width), true where the object is; of the images as `take(indices, None)` gives them."""
        ...


@dataclass(frozen=True)
class Splits:
    train: Images
    held_out: Images
    classes: int | None

    def of(self, name: str) -> Images:
        return {"train": self.train, "held_out": self.held_out}[name]


class DataSource(Strict):
    """Options of one source; a subclass has a literal field `name` and says how it is opened.

    `reads` is the kind of shape that it can give, `unit` what an epoch counts.
    """

    reads: ClassVar[type[InputShape]] = Shape
    unit: ClassVar[str] = "images"

    def splits(self, shape: InputShape) -> Splits:
        """The splits in the shape that a network reads; raises UserError where the data are of another kind."""
        if not isinstance(shape, self.reads):
            raise UserError(f"data {self.name} gives {self.reads.kind}, the network reads {shape.kind}: {shape}")
        return self.open(shape)

    @abstractmethod
    def open(self, shape: InputShape) -> Splits:
        """The splits as inputs of `shape`; raises UserError where the data cannot give them."""

    def alphabet(self) -> Alphabet:
        """What token numbers stand for; raises UserError where there are none."""
        raise UserError(f"data {self.name} holds no text")

    def prepared(self, picture: Image.Image, shape: Shape) -> Tensor:
        """One picture of any size as the held-out ones are prepared, (channels, height, width).

        By the source's own `preparation`; without one by the centre crop with values in [-1, 1].
        """
        return getattr(self, "preparation", Preparation()).tensor(picture, shape, None)

    def class_names(self) -> Sequence[str] | None:
        """What the classes are called, in their order; None where they have numbers only."""
        return None

    def keep(self, folder: Path) -> None:
        """Write into a run's folder what its data mean beside what the recipe says; most sources have nothing."""

    def kept(self, folder: Path) -> Self:
        """The source as the run in this folder has kept it."""
        return self

    def show(self, columns: Mapping[str, Tensor], path: Path) -> Path:
        """Make what a task has to show visible, in a file named like `path` with an ending of its own."""
        shown = {label: self.displayed(values.float()).cpu() for label, values in columns.items()}
        return pictures.sheet(shown, path.with_suffix(".png"))

    def displayed(self, images: Tensor) -> Tensor:
        """Images with values in [0, 1], for pictures; sources scale to [-1, 1] unless they say otherwise."""
        return (images / 2 + 0.5).clamp(0, 1)

    def scaled(self, images: Tensor) -> Tensor:
        """The inverse of `displayed`: values in [0, 1] as the network reads them."""
        return images * 2 - 1


def require_shape(source: str, given: Shape, wanted: Shape) -> None:
    if given != wanted:
        hint = f"sizes.image={given.height} sizes.channels={given.channels}"
        found = f"data {source} has images of {given}, the network reads {wanted}"
        raise Misfit(found, f" (set, for instance, {hint})")


@dataclass(frozen=True)
class First:
    """The first inputs of a split, never varied."""

    images: Images
    count: int

    def __len__(self) -> int:
        return min(self.count, len(self.images))

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        return self.images.take(indices, None)


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
