"""The folder of a run from someone else: resuming and evaluating it executes nothing that lies in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from runtime import evaluate, train
from runtime.storage import checkpoint
from tests.runtime.conftest import SPECS, TINY
from tests.security.bounded import Outcome, outcome
from tests.security.test_weights import Hostile

COMMANDS = {"resume": (train.main, "--resume"), "evaluate": (evaluate.main,)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that can go on: it says that it is to have more steps than it made."""
    path = tmp_path_factory.mktemp("trained") / "run"
    words = [SPECS / "crate.crate", "--recipe", "classify_digits", "--out", path, *TINY, "epochs=null", "steps=3"]
    assert outcome(train.main, *words).status == 0
    edit(path / "recipe.yaml", "steps: 3", "steps: 6")
    return path


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "run"
    assert not list(tmp_path.rglob("marker"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def replaced(file: Path, make: Callable[[Path], object]) -> None:
    file.unlink()
    make(file)


def attempt(command: str, run: Path) -> Outcome:
    main, *words = COMMANDS[command]
    return outcome(main, *words, run)


def test_the_state_is_data(run: Path) -> None:
    torch.save({"step": Hostile()}, run / "checkpoint.pt")
    attempt("resume", run).refused("it is damaged, or holds more than tensors and plain values")


def test_the_written_network_is_not_executed(run: Path) -> None:
    (run / "network.py").write_text("import os\nos.system('touch marker')\n")
    assert attempt("evaluate", run).status == 0


@pytest.mark.parametrize(
    ("command", "file", "says"),
    [
        ("resume", "checkpoint.pt", "is a pipe or a device"),
        ("evaluate", "weights.safetensors", "is a pipe or a device"),
        ("evaluate", "spec.crate", "not the folder of a run"),
        ("evaluate", "recipe.yaml", "not the folder of a run"),
    ],
)
def test_pipes(command: str, file: str, says: str, run: Path) -> None:
    replaced(run / file, os.mkfifo)
    attempt(command, run).refused(says)


@pytest.mark.parametrize(
    ("file", "says"),
    [("spec.crate", "at most 10,000,000 are read"), ("recipe.yaml", "at most 1,000,000 are read")],
)
def test_enormous_files(file: str, says: str, run: Path) -> None:
    with (run / file).open("wb") as stream:
        stream.truncate(3 * 10**9)
    attempt("evaluate", run).refused(says)


@pytest.mark.parametrize("line", ["[" * 100_000, "nonsense", "[]", '{"step": 1}'])
def test_figures(line: str, run: Path) -> None:
    (run / "metrics.jsonl").write_text(line + "\n")
    attempt("evaluate", run).refused("metrics.jsonl:1: not a line of figures")


def test_a_spec_as_large_as_it_likes(run: Path) -> None:
    """Beside weights that do not say what they were trained for."""
    weights = run / "weights.safetensors"
    checkpoint.save_weights(weights, checkpoint.load_weights(weights)[0], {})
    edit(run / "spec.crate", "d = 768", "d = 30000, q = 1")
    edit(run / "recipe.yaml", "d: 8", "L: 1000")
    edit(run / "recipe.yaml", "  K: 2\n  L: 1\n", "  K: 2\n")
    edit(run / "recipe.yaml", "preset: digits", "preset: null")
    attempt("evaluate", run).refused("parameters")
