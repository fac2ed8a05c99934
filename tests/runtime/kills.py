"""A run that is killed again and again, beside the same run left alone: python -m tests.runtime.kills [--kills 20]."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from runtime import train
from runtime.storage import checkpoint
from tests.runtime.conftest import RECIPES, SPECS, TINY

LENGTH = ["epochs=null", "steps=400", "ema=0.9", "checkpoint_every=1", "evaluate_every=30", "log_every=30"]


def killed_often(place: Path, kills: int, seed: int) -> tuple[Path, Path]:
    """The folder of a run left alone, and of one that was killed so often.

    Every second kill waits for a checkpoint being written, the others come at a random moment of a life.
    """
    command = [str(SPECS / "crate_mae.crate"), "--recipe", RECIPES["crate_mae"], *TINY, *LENGTH]
    straight, killed = place / "straight", place / "killed"
    finish([*command, "--out", str(straight)])
    moments = random.Random(seed)
    for number in range(kills):
        process = begin(continuing(command, killed))
        delay = moments.uniform(0, 1.5) if number % 2 else moments.uniform(0, 0.1)
        if number % 2 == 0:
            wait_for_writing(killed, process)
        process.join(delay)
        assert process.exitcode is None, "the run ended before it could be killed"
        process.kill()
        process.join()
    finish(continuing(command, killed))
    return straight, killed


def continuing(command: Sequence[str], run: Path) -> list[str]:
    """As a user would: go on with what is there, or start where nothing is."""
    return ["--resume", str(run)] if (run / "recipe.yaml").exists() else [*command, "--out", str(run)]


def wait_for_writing(run: Path, process: BaseProcess) -> None:
    while process.is_alive() and not list(run.glob(".checkpoint.pt.*")):
        time.sleep(0.0002)


def begin(arguments: Sequence[str]) -> BaseProcess:
    """A life of the run, in a process that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["runtime.train"])
    process = context.Process(target=live, args=(list(arguments),))
    process.start()
    return process


def live(arguments: Sequence[str]) -> None:
    torch.set_num_threads(1)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        train.main(arguments)


def finish(arguments: Sequence[str]) -> None:
    process = begin(arguments)
    process.join()
    assert process.exitcode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = killed_often(Path(folder), options.kills, options.seed)
        mine, theirs = (checkpoint.load_weights(run / "weights.safetensors")[0] for run in runs)
    equal = all(torch.equal(mine[name], theirs[name]) for name in mine)
    print(
        f"{options.kills} kills: final weights {'bit-equal' if equal else 'NOT equal'} to those of the run left alone"
    )


if __name__ == "__main__":
    main()
