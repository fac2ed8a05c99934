"""Where the log goes beside the terminal."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from runtime import evaluate
from runtime.errors import UserError
from runtime.storage import log
from runtime.storage.log import read_metrics
from runtime.storage.run_folder import RunFolder, commit
from tests.runtime.conftest import Train


class Online:
    """What `wandb.init` returns, as far as it is used."""

    def __init__(self, **options: object) -> None:
        self.options, self.logged, self.finished = options, [], False

    def log(self, figures: dict[str, float], step: int) -> None:
        self.logged.append((step, figures))

    def finish(self) -> None:
        self.finished = True


def test_weights_and_biases_get_the_log(tiny_run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Online] = []
    library = types.ModuleType("wandb")
    library.init = lambda **options: runs.append(Online(**options)) or runs[-1]
    monkeypatch.setitem(sys.modules, "wandb", library)
    tiny_run("crate", "wandb=white-box", steps=4)
    (run,) = runs
    assert run.finished and run.options["project"] == "white-box" and run.options["config"]["steps"] == 4
    assert [step for step, _ in run.logged] == [2, 4, 4]
    assert "train/loss" in run.logged[0][1] and "held_out/accuracy" in run.logged[-1][1]


def test_without_the_library_or_the_network_one_message(tiny_run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="needs the library `wandb`"):
        tiny_run("crate", "wandb=white-box", name="a")

    def refused(**options: object) -> None:
        raise ConnectionError("not logged in")

    library = types.ModuleType("wandb")
    library.init = refused
    monkeypatch.setitem(sys.modules, "wandb", library)
    with pytest.raises(UserError, match="wandb=white-box: not logged in"):
        tiny_run("crate", "wandb=white-box", name="b")


def test_the_commit_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit() == head
    (tmp_path / "file").write_text("2")
    assert commit() == f"{head}-dirty"


def test_a_log_that_is_binary(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b"\xc9\x00\n")
    with pytest.raises(UserError, match="metrics.jsonl: not lines of figures"):
        read_metrics(tmp_path / "metrics.jsonl")


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_shows_steps_and_time_however_narrow(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(log, "console", lambda: Console(file=screen, force_terminal=True, width=width))
    with log.Log(RunFolder(tmp_path), 0, 70) as told:
        told.advance(7)
        told.train(7, dict.fromkeys(("loss", "gradient_norm", "lr", "images_per_second", "data_wait"), 0.123456))
    last = [line for line in Text.from_ansi(screen.getvalue()).plain.splitlines() if "loss" in line][-1]
    assert "7/70" in last and re.search(r"0:00:0\d", last) and "loss 0.1235" in last and len(last) <= width


def test_names_are_no_markup(tiny_run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    """In titles, cells and lines alike."""
    run = tiny_run("crate", name="r[test] :cat:", steps=1)
    capsys.readouterr()
    evaluate.main([str(run)])
    assert "r[test] :cat:: last weights" in " ".join(capsys.readouterr().out.split())
    table = Table("[bold]a", title="[no]")
    table.add_row("b [/c]")
    log.console().print(table)
    log.console().print("[/d] :dog:")
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("[bold]a", "[no]", "b [/c]", "[/d] :dog:"))
