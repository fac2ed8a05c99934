"""Splits of the Hugging Face library `datasets`: sets of the hub, local files of all its kinds, and streams of them."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from glob import iglob
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from crate_dsl.errors import known
from runtime import seeds
from runtime.errors import UserError
from runtime.registry import Strict, absolute

READ_AT_ONCE = 32  # rows of a stream


class HuggingFace(Strict):
    """`path` is what `datasets.load_dataset` takes: a set of the hub, or a folder with pictures or Parquet, Arrow, CSV,
    JSON files; or a folder written by `save_to_disk`; or a kind of files (`imagefolder`, `parquet`, `arrow`, `json`)
    together with `data_dir` or `data_files` (by split). `subset` is the configuration of the set.

    With `streaming` nothing is downloaded as a whole: rows come in the order of the files, shuffled through a buffer
    of `shuffle_buffer` rows (and by files, where there are several), f(seed, epoch). A stream does not know its
    length: `samples` is what an epoch of training takes of it, `held_out_samples` what an evaluation does.
    """

    path: str
    subset: str | None = None
    data_dir: str | None = None
    data_files: dict[str, str | list[str]] | None = None
    train: str = "train"
    held_out: str = "validation"
    streaming: bool = False
    shuffle_buffer: int = Field(default=1000, gt=0)
    samples: int | None = Field(default=None, gt=0)
    held_out_samples: int | None = Field(default=None, gt=0)

    @field_validator("path")
    @classmethod
    def folder_from_anywhere(cls, path: str) -> str:
        """A local folder becomes absolute, as the paths of other sources are; names of the hub stay."""
        return str(absolute(Path(path))) if Path(path).is_dir() else path

    @field_validator("data_dir", "data_files")
    @classmethod
    def files_from_anywhere(cls, given: Any, so_far: ValidationInfo) -> Any:
        """Beside a kind of files they are local; beside a set of the hub, or a folder, they are within it."""
        if given is None or so_far.data.get("data_dir") or "/" in so_far.data.get("path", "/"):
            return given
        if isinstance(given, str):
            return local(given)
        return {split: [local(file) for file in listed(files)] for split, files in given.items()}

    def load(self) -> Any:
        """The data set as a mapping from split to rows; raises UserError where the library cannot give it."""
        self.require_lengths()
        library = import_datasets()
        place = {"data_dir": self.data_dir, "data_files": self.data_files}
        try:
            if any(Path(self.path, file).is_file() for file in ("dataset_dict.json", "state.json")):
                return self.saved(library)
            return library.load_dataset(self.path, self.subset, **place, streaming=self.streaming)
        except Exception as error:  # the library raises many kinds: missing, no network, unknown subset, broken files
            given = "".join(f", data.{name} {value}" for name, value in place.items() if value)
            why = f"{type(error).__name__}: {error}"
            raise UserError(f"{self.path}{given}: `datasets` cannot load it: {why}") from error

    def saved(self, library: ModuleType) -> Any:
        """What `save_to_disk` wrote; a set without splits has the one for training."""
        sets = library.load_from_disk(self.path)
        sets = sets if isinstance(sets, dict) else {self.train: sets}
        return {name: rows.to_iterable_dataset() for name, rows in sets.items()} if self.streaming else sets

    def require_lengths(self) -> None:
        for name in ("samples", "held_out_samples"):
            if (getattr(self, name) is not None) != self.streaming:
                wish = f"with data.streaming give data.{name}: the rows or windows of an epoch, or of an evaluation"
                raise UserError(wish if self.streaming else f"data.{name} is for data.streaming=true alone")

    def split(self, sets: Any, name: str, columns: tuple[str, ...]) -> Any:
        """The rows of a split with these columns alone; raises UserError where it lacks one."""
        if name not in sets:
            raise UserError(f'{self.path}: no split "{name}"; {known("splits", name, sets)}')
        found = sets[name].column_names or []  # unknown of some streams
        for column in columns:
            if found and column not in found:
                raise UserError(f'{self.path}: no column "{column}"; {known("columns", column, found)}')
        return sets[name].select_columns(list(columns))

    def opened(self, rows: Any, draw: tuple[int, int] | None) -> Iterator[dict[str, Any]]:
        """The rows of a stream, in the order of the epoch that `draw` = (seed, epoch) names."""
        if draw:
            rows = rows.shuffle(seed=seeds.stream(*draw), buffer_size=self.shuffle_buffer)
        # By `iter`, since iterating itself would give a process that loads data its own files alone.
        for part in rows.iter(READ_AT_ONCE):
            for values in zip(*part.values(), strict=True):
                yield dict(zip(part, values, strict=True))


def local(place: str) -> str:
    """A path or a pattern of paths that leads to something, absolute; addresses of other kinds as they are."""
    path = absolute(Path(place))
    return str(path) if "://" not in place and next(iglob(str(path), recursive=True), None) else place


def listed(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


def import_datasets() -> ModuleType:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise UserError("this needs the library `datasets`: pip install datasets") from None
