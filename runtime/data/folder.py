"""A folder of pictures as ImageNet is usually kept: root/train/CLASS/*.jpeg and root/val/CLASS/*.jpeg."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, chain
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor

from runtime import seeds
from runtime.data.source import Batch, DataSource, Splits
from runtime.errors import UserError
from runtime.images.augment import Preparation
from runtime.network import Shape
from runtime.reading.readable import Policy, Readable, decoded, undecoded
from runtime.registry import Place

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


class Folder(DataSource):
    """`path` holds the two splits; the classes are the folders of the training split in alphabetical order.

    An `unreadable` picture is an error, or the next readable one of its class takes its place.
    """

    name: Literal["folder"] = "folder"
    path: Place
    train: str = "train"
    held_out: str = "val"
    unreadable: Policy = "error"
    preparation: Preparation = Preparation()

    def displayed(self, images: Tensor) -> Tensor:
        return self.preparation.displayed(images)

    def scaled(self, images: Tensor) -> Tensor:
        return self.preparation.scaled(images)

    def class_names(self) -> Sequence[str] | None:
        """The names of the training folders; None where the pictures are not at hand."""
        root = self.path / self.train
        return sorted(entry.name for entry in subfolders(root)) if root.is_dir() else None

    def open(self, shape: Shape) -> Splits:
        classes = sorted(entry.name for entry in subfolders(self.path / self.train))
        train, held_out = (self.split(part, classes, shape) for part in (self.train, self.held_out))
        return Splits(train, held_out, classes=len(classes))

    def split(self, name: str, classes: list[str], shape: Shape) -> Pictures:
        root = self.path / name
        if unknown := {entry.name for entry in subfolders(root)} - set(classes):
            raise UserError(f"{root}: class {min(unknown)} does not occur in the training split")
        files = [pictures_in(root / kind) for kind in classes]
        if not any(files):
            raise UserError(f"{root}: no pictures ({', '.join(sorted(SUFFIXES))}) in folders of classes")
        return Pictures(files, shape, self.preparation, self.unreadable)


def subfolders(root: Path) -> list[Path]:
    """Hidden ones are left out: programs keep their own things there."""
    try:
        return [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    except OSError:
        raise UserError(f"{root}: no such folder of pictures (set data.path, data.train, data.held_out)") from None


def pictures_in(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES)


class Pictures:
    """Picture files by class, decoded when read."""

    def __init__(self, files: Sequence[Sequence[Path]], shape: Shape, preparation: Preparation, policy: Policy) -> None:
        self.files = [file for kind in files for file in kind]
        self.labels = [label for label, kind in enumerate(files) for _ in kind]
        ends = list(accumulate(map(len, files)))
        self.classes = [range(end - len(kind), end) for end, kind in zip(ends, files, strict=True)]
        self.shape, self.preparation = shape, preparation
        self.readable = Readable(policy, len(self.files))

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        images = [self.preparation.tensor(self.picture(i), self.shape, seeds.augmentation(draw, i)) for i in indices]
        return Batch(torch.stack(images), torch.tensor([self.labels[i] for i in indices]))

    def picture(self, index: int) -> Image.Image:
        alike = self.classes[self.labels[index]]
        return self.readable.first(chain(range(index, alike.stop), range(alike.start, index)), self.read)

    def read(self, number: int) -> Image.Image:
        file = self.files[number]
        return decoded(file, partial(undecoded, file))
