"""Anything of the Hugging Face `datasets` library that has pictures: a set of the hub or local files, also streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal

import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from runtime import seeds
from runtime.data.source import Batch, DataSource, Images, Splits
from runtime.errors import UserError
from runtime.images.augment import Preparation
from runtime.network import Shape
from runtime.reading.hugging_face import HuggingFace, import_datasets
from runtime.reading.readable import Policy, Readable, decoded
from runtime.reading.stream import Streamed

AHEAD = 64  # rows of a stream that may take the place of an unreadable one


class Hub(HuggingFace, DataSource):
    """Pictures of the column `image` with the classes of the column `label`, or without where that is null.

    `path` and what belongs to it: see `runtime/reading/hugging_face.py`. `classes` is the number of classes, needed of
    a stream that does not state it. Code that comes with a data set is never run. An `unreadable` picture is an error,
    or the next row takes its place.
    """

    name: Literal["hub"] = "hub"
    image: str = "image"
    label: str | None = "label"
    classes: int | None = Field(default=None, gt=0)
    unreadable: Policy = "error"
    preparation: Preparation = Preparation()

    def displayed(self, images: Tensor) -> Tensor:
        return self.preparation.displayed(images)

    def scaled(self, images: Tensor) -> Tensor:
        return self.preparation.scaled(images)

    def open(self, shape: Shape) -> Splits:
        sets = self.load()
        columns = (self.image, self.label) if self.label else (self.image,)
        parts = [self.split(sets, name, columns) for name in (self.train, self.held_out)]
        known = self.model_copy(update={"classes": self.class_count(parts)})
        counts = (self.samples, self.held_out_samples)
        train, held_out = (known.images(rows, shape, count) for rows, count in zip(parts, counts, strict=True))
        return Splits(train, held_out, classes=known.classes)

    def images(self, rows: Any, shape: Shape, count: int | None) -> Images:
        undecoded = rows.cast_column(self.image, import_datasets().Image(decode=False))
        if self.streaming:
            return Streamed(StreamedRows(undecoded, self, shape, Readable(self.unreadable, None)), count)
        return Rows(undecoded, self, shape, Readable(self.unreadable, len(rows)))

    def class_count(self, parts: Sequence[Any]) -> int | None:
        """What the recipe says, what the set says, or one more than the largest label of both splits."""
        if not self.label or self.classes:
            return self.classes if self.label else None
        feature = (parts[0].features or {}).get(self.label)
        if getattr(feature, "dtype", None) == "string":
            raise UserError(f'{self.path}: the classes in "{self.label}" are words: number them by class_encode_column')
        if self.streaming or hasattr(feature, "num_classes"):
            return getattr(feature, "num_classes", None)
        labels = [label for rows in parts for label in rows.unique(self.label) if label is not None]
        return max(labels, default=-1) + 1 or None

    def picture(self, row: dict[str, Any], number: int) -> Image.Image:
        """The decoded picture of a row; raises Unreadable."""
        value = row[self.image] or {}
        place = value.get("path") or f"{self.path}: {'example' if self.streaming else 'row'} {number}"
        return decoded(place, lambda: import_datasets().Image().decode_example(value))

    def target(self, row: dict[str, Any], number: int) -> int | None:
        """The class of a row; raises UserError where it is none of the network's."""
        if not self.label:
            return None
        label = row[self.label]
        if label is None or label < 0 or (self.classes and label >= self.classes):
            raise UserError(f'{self.path}: row {number}: "{self.label}" is {label}, which is no class')
        return int(label)


class Rows:
    """A split with random access."""

    def __init__(self, rows: Any, options: Hub, shape: Shape, readable: Readable) -> None:
        self.rows, self.options, self.shape, self.readable = rows, options, shape, readable

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        examples = [self.example(int(index), draw) for index in indices]
        labels = None if examples[0][1] is None else torch.tensor([label for _, label in examples])
        return Batch(torch.stack([image for image, _ in examples]), labels)

    def example(self, index: int, draw: tuple[int, int] | None) -> tuple[Tensor, int | None]:
        numbers = chain(range(index, len(self)), range(index))
        picture, label = self.readable.first(numbers, self.read)
        return self.options.preparation.tensor(picture, self.shape, seeds.augmentation(draw, index)), label

    def read(self, number: int) -> tuple[Image.Image, int | None]:
        row = self.rows[number]
        return self.options.picture(row, number), self.options.target(row, number)


class StreamedRows:
    """A split that is read from its start on."""

    def __init__(self, rows: Any, options: Hub, shape: Shape, readable: Readable) -> None:
        self.rows, self.options, self.shape, self.readable = rows, options, shape, readable

    def open(self, draw: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
        return self.options.opened(self.rows, draw)

    def example(
        self, row: Callable[[int], dict[str, Any]], index: int, draw: tuple[int, int] | None
    ) -> tuple[Tensor, int | None]:
        def read(number: int) -> tuple[Image.Image, int | None]:
            return self.options.picture(row(number), number), self.options.target(row(number), number)

        picture, label = self.readable.first(range(index, index + AHEAD), read)
        return self.options.preparation.tensor(picture, self.shape, seeds.augmentation(draw, index)), label
