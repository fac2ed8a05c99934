"""A bar on stderr while a bench runs; nothing where stderr is no terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Bar:
    """Stages of so many measurements; drawn only between them, so that nothing else runs while the clock does."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self.progress = Progress(
            *columns, console=console, disable=not console.is_terminal, auto_refresh=False, transient=True
        )
        self.task = self.progress.add_task("compiling", total=None)

    def __enter__(self) -> Bar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def stage(self, name: str, total: int) -> None:
        self.progress.reset(self.task, description=name, total=total)
        self.progress.refresh()

    def tick(self) -> None:
        self.progress.advance(self.task)
        self.progress.refresh()
