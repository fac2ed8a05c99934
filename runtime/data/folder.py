"""A folder of pictures as ImageNet is usually kept: root/train/CLASS/*.jpeg and root/val/CLASS/*.jpeg."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
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
from runtime.storage import untrusted

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")


class Folder(DataSource):
    """`path` holds the two splits; the classes are the folders of the training split in alphabetical order."""

    name: Literal["folder"] = "folder"
    path: Path
    train: str = "train"
    held_out: str = "val"
    preparation: Preparation = Preparation()

    def displayed(self, images: Tensor) -> Tensor:
        return self.preparation.displayed(images)

    def open(self, shape: Shape) -> Splits:
        classes = sorted(entry.name for entry in subfolders(self.path / self.train))
        train, held_out = (self.split(part, classes, shape) for part in (self.train, self.held_out))
        return Splits(train, held_out, classes=len(classes))

    def split(self, name: str, classes: list[str], shape: Shape) -> Pictures:
        root = self.path / name
        if unknown := {entry.name for entry in subfolders(root)} - set(classes):
            raise UserError(f"{root}: class {min(unknown)} does not occur in the training split")
        files = [(file, label) for label, kind in enumerate(classes) for file in pictures_in(root / kind)]
        if not files:
            raise UserError(f"{root}: no pictures ({', '.join(sorted(SUFFIXES))}) in folders of classes")
        return Pictures(files, shape, self.preparation)


def subfolders(root: Path) -> list[Path]:
    try:
        return [entry for entry in root.iterdir() if entry.is_dir()]
    except OSError:
        raise UserError(f"{root}: no such folder of pictures (set data.path, data.train, data.held_out)") from None


def pictures_in(root: Path) -> list[Path]:
    return sorted(file for file in root.rglob("*") if file.suffix.lower() in SUFFIXES)


@dataclass(frozen=True)
class Pictures:
    """Picture files with their labels, decoded when read."""

    files: list[tuple[Path, int]]
    shape: Shape
    preparation: Preparation

    def __len__(self) -> int:
        return len(self.files)

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        images = [
            self.preparation.tensor(opened(self.files[i][0]), self.shape, seeds.augmentation(draw, i)) for i in indices
        ]
        return Batch(torch.stack(images), torch.tensor([self.files[i][1] for i in indices]))


def opened(file: Path) -> Image.Image:
    """A decoded picture; raises UserError for what is none, or is of another format than its ending can mean.

    Other formats are not tried: Pillow would hand a PostScript file, whatever its ending, to an interpreter.
    """
    untrusted.require_file(file)
    try:
        with warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning):
            with Image.open(file, formats=FORMATS) as picture:
                picture.load()
                return picture
    except Exception as error:  # arbitrary bytes make Pillow's readers fail in arbitrary ways
        raise UserError(f"{file}: not a readable picture: {error}") from None
