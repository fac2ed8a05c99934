"""What a run tells: a progress bar on a terminal, plain lines elsewhere; always JSONL and TensorBoard."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column
from torch.utils.tensorboard import SummaryWriter

from runtime.errors import UserError
from runtime.storage import checkpoint
from runtime.storage.run_folder import RunFolder


class Log:
    """The log of one run from `step` on; what an interrupted run had logged beyond that step is dropped."""

    def __init__(self, folder: RunFolder, step: int, total: int, wandb: str | None = None) -> None:
        self.online = joined(wandb, folder) if wandb else None
        rewind(folder.metrics, step)
        self.total = total
        self.file = folder.metrics.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)
        self.console = console()
        figures = TextColumn("{task.fields[figures]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
        columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), figures)
        self.progress = Progress(*columns, console=self.console, disable=not self.console.is_terminal, expand=True)
        self.task = self.progress.add_task("training", total=total, completed=step, figures="")

    def __enter__(self) -> Log:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        self.file.close()
        self.board.close()
        if self.online:
            self.online.finish()

    def advance(self, step: int) -> None:
        self.progress.update(self.task, completed=step)

    def train(self, step: int, figures: Mapping[str, float]) -> None:
        """Figures of the training, shown in the bar or as a line."""
        self.keep(step, "train", figures)
        text = listed(figures)
        self.progress.update(self.task, figures=text)
        if not self.console.is_terminal:
            self.console.print(f"step {step}/{self.total}  {text}")

    def held_out(self, step: int, figures: Mapping[str, float]) -> None:
        self.keep(step, "held_out", figures)
        self.say(f"step {step}/{self.total}  held out: {listed(figures)}")

    def say(self, text: str) -> None:
        self.console.print(text)

    def keep(self, step: int, split: str, figures: Mapping[str, float]) -> None:
        self.file.write(json.dumps({"step": step, "split": split, **figures}) + "\n")
        self.file.flush()
        for name, value in figures.items():
            self.board.add_scalar(f"{split}/{name}", value, step)
        if self.online:
            self.online.log({f"{split}/{name}": value for name, value in figures.items()}, step=step)


def joined(project: str, folder: RunFolder) -> Any:
    """The run of this folder at Weights & Biases, the same one whenever it goes on; raises UserError where it fails."""
    try:
        library = importlib.import_module("wandb")
    except ImportError:
        raise UserError(f"wandb={project} needs the library `wandb`: pip install wandb (or wandb=null)") from None
    name = folder.path.resolve()
    identity = hashlib.blake2b(str(name).encode(), digest_size=8).hexdigest()
    config = yaml.safe_load(folder.recipe.read_text(encoding="utf-8"))
    try:
        return library.init(
            project=project, name=name.name, id=identity, resume="allow", dir=str(folder.path), config=config
        )
    except Exception as error:  # not logged in, no network: the library has many kinds
        raise UserError(f"wandb={project}: {error}") from error


class Silence:
    """The log of a process that is not the first: nothing."""

    def __enter__(self) -> Silence:
        return self

    def __exit__(self, *_: object) -> None: ...

    def advance(self, step: int) -> None: ...

    def train(self, step: int, figures: Mapping[str, float]) -> None: ...

    def held_out(self, step: int, figures: Mapping[str, float]) -> None: ...


def console() -> Console:
    """Standard output, as wide as the terminal; a file has no width, so that tables get room enough.

    Text is text: brackets and colons in names of files and classes are no markup.
    """
    options = {"highlight": False, "soft_wrap": True, "markup": False, "emoji": False}
    terminal = Console(**options)
    return terminal if terminal.is_terminal else Console(**options, width=120)


def listed(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


def read_metrics(path: Path) -> list[dict[str, float | str]]:
    """The kept figures; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not lines of figures, but something binary") from None
    return [entry_of(line, f"{path}:{number}") for number, line in enumerate(lines[:-1], 1)]


def entry_of(line: str, place: str) -> dict[str, float | str]:
    """The figures of one line; raises UserError for what this project did not write."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    if not (isinstance(entry, dict) and isinstance(entry.get("step"), int) and isinstance(entry.get("split"), str)):
        raise UserError(f"{place}: not a line of figures, an object with a step and a split")
    return entry


def rewind(path: Path, step: int) -> None:
    """Drop what was logged after `step`, so that no step occurs twice in a resumed run."""
    kept = [json.dumps(entry) + "\n" for entry in read_metrics(path) if entry["step"] <= step]
    checkpoint.replace_text(path, "".join(kept))
