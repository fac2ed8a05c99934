"""Exact resume: a run that was stopped or killed ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path

import pytest
import torch

from runtime import train
from runtime.errors import Stopped, UserError
from runtime.storage import checkpoint
from runtime.storage.log import read_metrics
from runtime.training.trainer import Trainer
from tests.runtime.conftest import SPECS, Train
from tests.runtime.kills import killed_often

TIMED = ("images_per_second", "windows_per_second", "data_wait", "memory_gb", "mfu")


def assert_same_end(one: Path, other: Path) -> None:
    for name in ("weights.safetensors", "best.safetensors"):
        mine, theirs = (checkpoint.load_weights(run / name)[0] for run in (one, other))
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), name
    first, second = (
        [{k: v for k, v in entry.items() if k not in TIMED} for entry in read_metrics(run / "metrics.jsonl")]
        for run in (one, other)
    )
    assert first == second


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the run receive SIGTERM in the middle of a step."""
    update = Trainer.update

    def interrupted(self: Trainer, *arguments: object) -> dict[str, float]:
        if self.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", interrupted)


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("crate", ["ema=0.9", "accumulate=4", "clip=0.5"]),
        ("crate_mae", ["ema=0.99"]),
        ("crate_mae", ["accumulate=2", "precision=bfloat16"]),
        ("crate_decoder", ["schedule.warmup=4"]),
        ("crate_decoder", ["optimizer=lion", "schedule={name: linear, warmup_epochs: 0.5}"]),
        ("crate", ["optimizer=muon", "optimizer.layer_decay=0.8", "optimizer.weight_decay_end=0.5"]),
        ("crate_dino", ["task.head.hidden=16", "task.views.local=1"]),
        ("crate_dino", ["task=dino", "task.head.hidden=16", "task.head.prototypes=9", "accumulate=2"]),
        ("crate_gpt", ["batch=128", "ema=0.9"]),
        ("crate_bert", ["batch=128", "accumulate=2"]),
        ("tost", ["sizes.drop=0.3", "accumulate=2"]),
        ("tost_vision", ["ema=0.9", "accumulate=2", "augmentation={erasing: 0.3}"]),
    ],
)
def test_stopped_and_resumed_equals_straight(
    spec: str, overrides: list[str], tiny_run: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = tiny_run(spec, *overrides, name="straight", steps=26)  # an epoch has 22 or 19 steps
    with monkeypatch.context() as patch:
        stop_after(patch, 13)
        with pytest.raises(Stopped, match="SIGTERM: stopped after step 13 of 26; continue with --resume") as stopped:
            tiny_run(spec, *overrides, name="halves", steps=26)
    assert stopped.value.signal == signal.SIGTERM
    halves = straight.parent / "halves"
    assert checkpoint.read_state(halves / "checkpoint.pt")["step"] == 13
    train.main(["--resume", str(halves)])
    assert_same_end(straight, halves)


def test_the_command_to_go_on_can_be_pasted_into_a_shell(tiny_run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped) as stopped:
            tiny_run("crate", name="first try", steps=6)
    with pytest.raises(UserError, match="already holds a run") as refused:
        tiny_run("crate", name="first try", steps=6)
    for words in (shlex.split(str(stopped.value)), shlex.split(str(refused.value).partition(", or ")[0])):
        folder = Path(words[words.index("--resume") + 1])
        assert (folder.name, folder.is_dir(), words[-1]) == ("first try", True, str(folder))


def test_killed_twenty_times_equals_straight(tmp_path: Path) -> None:
    """SIGKILL at random moments, and while a checkpoint is being written."""
    assert_same_end(*killed_often(tmp_path, kills=20, seed=0))


def test_the_spec_beside_resume_must_be_that_of_the_run(tiny_run: Train) -> None:
    run = tiny_run("crate", steps=2)
    with pytest.raises(UserError, match="not of .*crate_mae.crate"):
        train.main([str(SPECS / "crate_mae.crate"), "--resume", str(run)])


def test_a_finished_or_missing_run_cannot_be_resumed(tiny_run: Train, tmp_path: Path) -> None:
    run = tiny_run("crate", steps=2)
    with pytest.raises(UserError, match="is finished after 2 steps"):
        train.main(["--resume", str(run)])
    with pytest.raises(UserError, match="not the folder of a run"):
        train.main(["--resume", str(tmp_path / "nowhere")])


def test_a_run_without_a_checkpoint_begins_again(tiny_run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run, straight = tiny_run("crate", steps=4), tiny_run("crate", steps=4, name="straight")
    (run / "checkpoint.pt").unlink()
    (run / "checkpoint.before.pt").unlink()
    train.main(["--resume", str(run)])
    assert "before its first checkpoint, so it begins again" in capsys.readouterr().out
    assert_same_end(straight, run)


def test_another_spec_in_the_folder_is_noticed(tiny_run: Train) -> None:
    run = tiny_run("crate", steps=2)
    with (run / "spec.crate").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    with pytest.raises(UserError, match="written for another spec.* put that file back as it was, or begin a new run"):
        train.main(["--resume", str(run)])


def test_a_broken_checkpoint_is_one_message(tiny_run: Train) -> None:
    run = tiny_run("crate", steps=2)
    (run / "checkpoint.pt").write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="not a readable training state"):
        train.main(["--resume", str(run)])


def test_other_training_data_are_noticed(tiny_run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run("crate_gpt", steps=2)
    recipe = (run / "recipe.yaml").read_text()
    assert "held_out: 0.15" in recipe
    changed = recipe.replace("held_out: 0.15", "held_out: 0.3").replace("steps: 2\n", "steps: 3\n")
    (run / "recipe.yaml").write_text(changed)
    train.main(["--resume", str(run)])
    assert "note: the training data had" in capsys.readouterr().out
