"""Anything of the Hugging Face `datasets` library that has pictures: a name on the hub or a local folder."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from runtime import seeds
from runtime.data.source import Batch, DataSource, Splits
from runtime.errors import UserError, known
from runtime.images.augment import Preparation
from runtime.network import Shape


class Hub(DataSource):
    """`path` is what `datasets.load_dataset` takes, or a folder written by `save_to_disk`.

    `subset` is the configuration of the set, `label` the column of classes or null.
    """

    name: Literal["hub"] = "hub"
    path: str
    subset: str | None = None
    train: str = "train"
    held_out: str = "validation"
    image: str = "image"
    label: str | None = "label"
    preparation: Preparation = Preparation()

    def displayed(self, images: Tensor) -> Tensor:
        return self.preparation.displayed(images)

    def scaled(self, images: Tensor) -> Tensor:
        return self.preparation.scaled(images)

    def open(self, shape: Shape) -> Splits:
        sets = load(self.path, self.subset)
        train, held_out = (self.split(sets, name, shape) for name in (self.train, self.held_out))
        feature = train.rows.features[self.label] if self.label else None
        return Splits(train, held_out, classes=getattr(feature, "num_classes", None))

    def split(self, sets: Any, name: str, shape: Shape) -> Rows:
        if name not in sets:
            raise UserError(f'{self.path}: no split "{name}"; {known("splits", name, sets)}')
        for column in filter(None, (self.image, self.label)):
            if column not in sets[name].column_names:
                raise UserError(
                    f'{self.path}: no column "{column}"; {known("columns", column, sets[name].column_names)}'
                )
        return Rows(sets[name], self, shape)


def load(path: str, subset: str | None) -> Any:
    """The data set as a mapping from split to rows; code that comes with a data set is never run."""
    try:
        library = importlib.import_module("datasets")
    except ImportError:
        raise UserError("data hub needs the library `datasets`: pip install datasets") from None
    try:
        on_disk = Path(path, "dataset_dict.json").is_file()
        return library.load_from_disk(path) if on_disk else library.load_dataset(path, subset)
    except Exception as error:  # the library raises many kinds: missing, no network, unknown subset, broken files
        raise UserError(f"{path}: `datasets` cannot load it: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class Rows:
    """A split of such a data set."""

    rows: Any
    options: Hub
    shape: Shape

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        rows = [self.rows[int(i)] for i in indices]
        generators = [seeds.augmentation(draw, int(i)) for i in indices]
        prepare, image, label = self.options.preparation.tensor, self.options.image, self.options.label
        images = torch.stack([prepare(row[image], self.shape, g) for row, g in zip(rows, generators, strict=True)])
        return Batch(images, torch.tensor([row[label] for row in rows]) if label else None)
