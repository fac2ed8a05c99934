"""What surrounds a command: signals to its whole group, readers that go away, terminals that lack letters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from runtime import evaluate, explore, finetune, fit, probe, report, sample, subspaces, train
from runtime.errors import UserError
from runtime.storage import checkpoint
from tests.runtime.conftest import SPECS, TINY, Weights

TRAIN = [sys.executable, "-m", "runtime.train", str(SPECS / "crate.crate"), *TINY, "epochs=null"]


def test_a_signal_to_the_whole_group_leaves_a_checkpoint(tmp_path: Path) -> None:
    """As from `timeout` or a scheduler: processes that load data get it too."""
    rare = ["steps=100000", "checkpoint_every=100000", "evaluate_every=100000", "log_every=1"]
    words = [*TRAIN, *rare, "workers=1", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and said.startswith("SIGTERM: stopped after step"), said
    assert checkpoint.read_state(tmp_path / "run" / "checkpoint.pt")["step"] > 0


@pytest.mark.parametrize("lines", [1, 4])
def test_a_run_outlives_what_reads_its_output(lines: int, tmp_path: Path) -> None:
    words = [*TRAIN, "steps=6", "--out", str(tmp_path / "run")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 0, process.stderr.read()
    assert checkpoint.read_state(tmp_path / "run" / "checkpoint.pt")["step"] == 6


def test_letters_that_a_terminal_lacks_are_replaced() -> None:
    words = [sys.executable, "-m", "crate_dsl.cli", str(SPECS / "nowhere\N{GREEK SMALL LETTER ETA}.crate")]
    plain = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run(words, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "nowhere?.crate" in done.stderr and "Traceback" not in done.stderr


def test_a_forgotten_spec_is_asked_for_by_the_right_command(weights_of: Weights) -> None:
    with pytest.raises(UserError, match="one spec is needed, 0 were given\nusage: python -m runtime.finetune"):
        finetune.main([str(weights_of("crate", image=8, patch=2, channels=1, d=8, K=2, L=1))])


ENTRIES = "here a preset and sizes are entries of the recipe: preset=NAME sizes.NAME=VALUE"
OPTIONS = "here a preset and sizes are options: --preset NAME --set NAME=VALUE"
SPELT = [
    (train, ["--preset", "tiny"], ENTRIES),
    (explore, ["--set", "d=8"], ENTRIES),
    (finetune, ["weights", "--preset=tiny"], ENTRIES),
    (fit, ["--set", "L=2"], "here sizes stand by themselves: NAME=VALUE"),
    (subspaces, ["d=8"], OPTIONS),
    (report, ["--set", "preset=tiny"], "not of the form name=number; a preset is chosen by --preset tiny"),
]


@pytest.mark.parametrize(("command", "words", "message"), SPELT)
def test_a_size_spelt_as_for_another_command(command: ModuleType, words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        command.main([str(SPECS / "crate.crate"), *words])


def test_what_has_no_sizes_says_nothing_of_them() -> None:
    with pytest.raises(UserError, match="unrecognized arguments: --preset tiny\nusage"):
        sample.main(["run", "--preset", "tiny"])


@pytest.mark.parametrize("command", [evaluate, probe])
def test_a_bare_file_asks_for_a_recipe_that_fits(command: ModuleType, weights_of: Weights) -> None:
    file = weights_of("crate", image=16, patch=4, channels=3, classes=10, d=8, K=2, L=1)
    with pytest.raises(UserError, match="the network reads 3 x 16 x 16; its sizes are fixed: --recipe FILE"):
        command.main([str(file)])
