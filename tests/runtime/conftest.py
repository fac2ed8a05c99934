"""Tiny runs of the shipped specs: seconds each, on the digits or on the text of Python's documentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import train

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
