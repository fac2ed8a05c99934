"""Tiny runs of the shipped specs: seconds each, on the digits or on the text of Python's documentation."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from runtime import train
from runtime.command import run
from runtime.network import compile_network
from runtime.storage import checkpoint
from runtime.storage.run_folder import origin

SPECS = Path(__file__).parents[2] / "specs"
DATA = Path(__file__).parents[1] / "data"
RECIPES = {
    "crate": "classify_digits",
    "crate_mae": "mae_digits",
    "crate_decoder": "denoise_digits",
    "crate_dino": "simdino_digits",
    "crate_gpt": "gpt_text",
    "crate_bert": "bert_text",
    "tost": "classify_digits",
    "tost_vision": "classify_digits",
}
TINY = ["sizes.d=8", "sizes.K=2", "sizes.L=1", "batch=64", "log_every=2", "evaluate_every=4", "checkpoint_every=3"]

Train = Callable[..., Path]


@pytest.fixture
def tiny_run(tmp_path: Path) -> Train:
    """Trains a tiny network of a spec for a few steps and returns the folder of the run."""

    def run(spec: str, *overrides: str, name: str = "run", steps: int = 6) -> Path:
        length = ["epochs=null", f"steps={steps}"]
        words = [str(SPECS / f"{spec}.crate"), "--recipe", RECIPES[spec], "--out", str(tmp_path / name)]
        train.main([*words, *TINY, *length, *overrides])
        return tmp_path / name

    return run


Weights = Callable[..., Path]


@pytest.fixture
def weights_of(tmp_path: Path) -> Weights:
    """Writes a weights file of a spec, freshly initialised: what a bare file of ours is."""

    def write(spec: str | Path, name: str = "weights", seed: int = 1, **sizes: int | float) -> Path:
        path = spec if isinstance(spec, Path) else SPECS / f"{spec}.crate"
        compiled = compile_network(path, None, sizes, seed)
        file = tmp_path / f"{name}.safetensors"
        checkpoint.save_weights(file, compiled.module.state_dict(), origin(None, sizes, compiled))
        return file

    return write


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The exit status of a command with these words, as a shell sees it."""

    def leave(command: ModuleType, *words: object) -> int:
        monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, words)])
        with pytest.raises(SystemExit) as left:
            run(command.main)
        return left.value.code

    return leave
