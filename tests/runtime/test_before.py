"""Before a run: its estimate, its rehearsal, and learning a few inputs by heart."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from runtime import train
from runtime.errors import UserError
from runtime.network import compile_network, parameter_count
from runtime.recipe import recipes
from runtime.storage.log import read_metrics
from runtime.training.estimate import Rehearsed, state_bytes
from runtime.training.trainer import Trainer
from tests.runtime.conftest import RECIPES, SPECS, TINY, Train

CRATE = str(SPECS / "crate.crate")
QUICK = ["sizes.d=8", "sizes.K=2", "sizes.L=1", "batch=64"]


# ---- estimate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", RECIPES)
def test_an_estimate_needs_no_data(spec: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["data=folder", "data.path=nowhere"] if spec in ("crate", "crate_mae", "crate_decoder") else []
    train.main([str(SPECS / f"{spec}.crate"), "--recipe", RECIPES[spec], "--estimate", *QUICK, *words])
    printed = capsys.readouterr().out
    names = ("coder U", "operations of a step", "activations", "memory", "time of a step")
    assert all(name in printed for name in names)


def test_what_stays_between_steps_is_counted_exactly() -> None:
    """Weights, gradients and AdamW's two moments of four bytes each, and its count of steps per tensor."""
    recipe = recipes.load(recipes.find("classify_digits"), [*QUICK, "ema=null"])
    compiled = compile_network(SPECS / "crate.crate", recipe.preset, recipe.sizes)
    run = Rehearsed(recipe, compiled)
    run.gradient()
    run.update()
    tensors = len(list(compiled.module.parameters()))
    buffers = sum(value.numel() * value.element_size() for value in compiled.module.buffers())
    assert state_bytes(run) == 4 * 4 * parameter_count(compiled.module) + 4 * tensors + buffers


def test_operations_are_those_that_torch_counts() -> None:
    """Of a network without attention, whose products torch's own counter sees all."""
    recipe = recipes.load(recipes.find("classify_digits"), QUICK)
    compiled = compile_network(SPECS / "crate_exact.crate", "digits", recipe.sizes)
    run = Rehearsed(recipe, compiled)
    with FlopCounterMode(display=False) as counter:
        run.gradient()
    assert run.flops * run.count == pytest.approx(counter.get_total_flops(), rel=0.25)  # M and small solves are apart


# ---- dry run ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and one for temporary files; both are to stay empty."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def left(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.name not in ("work", "temporary")]


def test_a_dry_run_goes_through_everything_and_leaves_nothing(
    nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train.main([CRATE, "--dry-run", *TINY])
    printed = capsys.readouterr().out
    assert "held out: accuracy" in printed and "the resumed run ended with the same bits" in printed
    assert left(nowhere) == []


def test_a_dry_run_finds_what_resuming_forgets(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Trainer.load

    def forgetful(self: Trainer, state: dict[str, Any]) -> None:
        load(self, state)
        for entry in self.optimizer.state.values():
            entry["exp_avg"].zero_()

    monkeypatch.setattr(Trainer, "load", forgetful)
    with pytest.raises(UserError, match="dry run: after resuming, .* differs"):
        train.main([CRATE, "--dry-run", *TINY])
    assert left(nowhere) == []


def test_a_dry_run_refuses_what_the_run_would(nowhere: Path) -> None:
    with pytest.raises(UserError, match="nowhere.*no such folder of pictures"):
        train.main([CRATE, "--dry-run", "data=folder", "data.path=nowhere"])
    with pytest.raises(UserError, match="keep nothing: leave --out away"):
        train.main([CRATE, "--dry-run", "--out", "run"])
    assert left(nowhere) == []


# ---- by heart --------------------------------------------------------------------------------------------------------


def test_a_few_inputs_are_learned_by_heart(tmp_path: Path) -> None:
    run = tmp_path / "run"
    few = ["epochs=null", "steps=150", "sizes.d=16", "sizes.K=2", "sizes.L=1", "log_every=10", "schedule.warmup=0"]
    train.main([CRATE, "--overfit", "8", "--out", str(run), *few, "optimizer.lr=1e-2"])
    entries = read_metrics(run / "metrics.jsonl")
    losses = [entry["loss"] for entry in entries if entry["split"] == "train"]
    assert losses[-1] < losses[0] / 10
    assert [entry["accuracy"] for entry in entries if entry["split"] == "held_out"][-1] == 1
    kept = recipes.load(run / "recipe.yaml")
    assert kept.overfit == 8 and kept.batch == 8


def test_by_heart_means_unvaried(tiny_run: Train) -> None:
    recipe = recipes.load(tiny_run("crate", "overfit=4", steps=1) / "recipe.yaml")
    compiled = compile_network(SPECS / "crate.crate", recipe.preset, recipe.sizes)
    splits = recipe.splits(compiled.shape)
    varied = [splits.train.take(range(4), (0, epoch)).inputs for epoch in (0, 1)]
    assert torch.equal(*varied) and torch.equal(varied[0], splits.held_out.take(range(4), None).inputs)
