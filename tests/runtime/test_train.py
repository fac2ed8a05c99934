"""The commands from outside: what a run leaves, and one clear message for every mistake."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from crate_dsl import CrateError
from runtime import compare, evaluate, train
from runtime.errors import UserError
from runtime.storage import checkpoint
from runtime.storage.log import read_metrics
from runtime.storage.trained import network_of
from runtime.training import launch
from runtime.training.trainer import Trainer
from tests.runtime.conftest import RECIPES, SPECS, TINY, Train

CRATE, MAE, DECODER = (str(SPECS / f"{name}.crate") for name in ("crate", "crate_mae", "crate_decoder"))


def test_what_a_run_leaves(tiny_run: Train) -> None:
    run = tiny_run("crate_mae", "ema=0.9", steps=6)
    left = {path.name for path in run.iterdir()}
    files = {"recipe.yaml", "spec.crate", "network.py", "versions.json", "metrics.jsonl", "tensorboard", "pictures"}
    states = {"checkpoint.pt", "checkpoint.before.pt"}
    assert left == files | states | {"weights.safetensors", "best.safetensors", "evaluation-held_out.json"}
    assert {path.name for path in (run / "pictures").iterdir()} == {"curve.png", "held_out.png"}
    assert [(e["step"], e["split"]) for e in read_metrics(run / "metrics.jsonl")] == [
        (2, "train"),
        (4, "train"),
        (4, "held_out"),
        (6, "train"),
        (6, "held_out"),
    ]
    weights, origin = checkpoint.load_weights(run / "weights.safetensors")
    assert origin["spec"] == (run / "spec.crate").read_text(encoding="utf-8")
    assert origin["spec_sha256"] == json.loads((run / "versions.json").read_text())["spec_sha256"]
    assert not any("_orig_mod" in name for name in weights)
    assert (
        launch.body((run / "network.py").read_text(encoding="utf-8"))
        == launch.body(network_of(run).compiled.text)
        != ""
    )


@pytest.mark.parametrize("spec", RECIPES)
def test_evaluating_again_gives_the_same(spec: str, tiny_run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run = tiny_run(spec, "ema=null" if spec == "crate_dino" else "ema=0.8")  # a teacher is an average already
    first = json.loads((run / "evaluation-held_out.json").read_text())
    evaluate.main([str(run), "--out", str(run / "again")])
    assert json.loads((run / "again" / "evaluation-held_out.json").read_text()) == first
    evaluate.main([str(run), "--split", "train", "--weights", "best"])
    assert json.loads((run / "evaluation-train.json").read_text())["weights"] == "best"
    assert "accuracy" in capsys.readouterr().out or spec != "crate"


def test_learning_happens(tiny_run: Train) -> None:
    run = tiny_run("crate_decoder", "optimizer.lr=3e-3", "log_every=10", "schedule.warmup=0", steps=60)
    losses = [entry["loss"] for entry in read_metrics(run / "metrics.jsonl") if entry["split"] == "train"]
    assert losses[-1] < 0.7 * losses[0]


def test_accumulation_is_the_same_batch(tiny_run: Train) -> None:
    runs = [tiny_run("crate_mae", f"accumulate={parts}", name=f"parts{parts}") for parts in (1, 4)]
    whole, parts = (checkpoint.load_weights(run / "weights.safetensors")[0] for run in runs)
    assert all(torch.allclose(whole[name], parts[name], atol=2e-4) for name in whole)


def test_compiled_runs_keep_plain_names(tiny_run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module: torch.nn.Sequential(module))  # the real one takes a minute
    run = tiny_run("crate_decoder", "compile=true")
    assert not any("_orig_mod" in name for name in checkpoint.load_weights(run / "weights.safetensors")[0])


def test_not_finite_names_the_step(tiny_run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    update = Trainer.update

    def poisoned(self: Trainer, *arguments: object) -> dict[str, float]:
        if self.step == 4:
            with torch.no_grad():
                next(v for n, v in self.network.named_parameters() if n.startswith("encoder.1")).fill_(math.nan)
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", poisoned)
    message = r'step 5: the loss is nan: the first step whose output is not finite is "encoder\.1\.\w+".*step 3 is kept'
    with pytest.raises(UserError, match=message):
        tiny_run("crate", "sizes.L=2")


MISTAKES = {
    "no spec": ([], UserError, "one spec is needed, 0 were given"),
    "two specs": ([CRATE, MAE], UserError, "one spec is needed, 2 were given"),
    "absent spec": (["specs/nowhere.crate"], CrateError, "nowhere.crate"),
    "unknown recipe": ([CRATE, "--recipe", "mae_digit"], UserError, 'unknown recipe "mae_digit"'),
    "unknown key": ([CRATE, "optimizer.lrr=1"], UserError, 'Did you mean "lr"?'),
    "unknown option": ([CRATE, "--recipes", "x"], UserError, "unrecognized arguments|expected"),
    "wrong type": ([CRATE, "batch=many"], UserError, "batch: .*'many'"),
    "unknown preset": ([CRATE, "preset=digit"], CrateError, "digit"),
    "unknown size": ([CRATE, "sizes.width=3"], CrateError, "width"),
    "task mismatch": ([CRATE, "--recipe", "mae_digits"], UserError, 'task "mae" cannot train'),
    "data mismatch": ([CRATE, "sizes.image=32"], UserError, "the network reads 1 x 32 x 32"),
    "class mismatch": ([CRATE, "sizes.classes=3"], UserError, "sizes.classes=10"),
    "batch too large": ([CRATE, "batch=5000"], UserError, "batch 5000 is larger than the training data"),
    "uneven shares": ([CRATE, "batch=128", "accumulate=3"], UserError, "batch 128 cannot be split into 3 equal shares"),
    "absent device": ([CRATE, "device=cuda:17"], UserError, 'device "cuda:17" cannot be used'),
    "unknown device": ([CRATE, "device=gpu"], UserError, 'device "gpu" cannot be used'),
    "device without numbers": ([CRATE, "device=meta"], UserError, 'device "meta" cannot be used'),
    "resume with more": (["--resume", "run", "steps=3"], UserError, "give --resume DIR alone"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path) -> None:
    words, kind, message = MISTAKES[name]
    out = [] if "--resume" in words else ["--out", str(tmp_path / "run")]
    with pytest.raises(kind, match=message):
        train.main([*words, *out])
    assert not (tmp_path / "run").exists()


def test_folders_that_cannot_be_used(tiny_run: Train, tmp_path: Path) -> None:
    run = tiny_run("crate", steps=1)
    with pytest.raises(UserError, match="already holds a run: continue it with --resume"):
        tiny_run("crate", steps=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made a run folder"):
        train.main([CRATE, "--out", str(tmp_path / "file" / "run")])
    with pytest.raises(UserError, match="not the folder of a run"):
        evaluate.main([str(tmp_path)])
    (run / "best.safetensors").unlink()
    with pytest.raises(UserError, match="stopped before it wrote best.safetensors"):
        evaluate.main([str(run), "--weights", "best"])


def test_a_mistake_from_outside_is_one_message() -> None:
    command = [sys.executable, "-m", "runtime.train", CRATE, "bach=3"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SPECS.parent)
    assert result.returncode == 1
    assert result.stdout == ""
    assert 'unknown key "bach"' in result.stderr and "Traceback" not in result.stderr


def test_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main([CRATE, "--vit", "--out", str(tmp_path / "both"), *TINY, "epochs=null", "steps=2"])
    printed = capsys.readouterr().out
    table = printed[printed.rindex("held out") :]
    assert all(word in table for word in ("crate", "vit", "parameters", "accuracy", "seconds"))
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"crate", "vit"}
    with pytest.raises(UserError, match="classifiers only"):
        compare.main([MAE, "--vit", "--out", str(tmp_path / "mae"), *TINY])
    for others, complaint in (([MAE], "cannot train a network of the kind"), ([CRATE], "different file names")):
        with pytest.raises(UserError, match=complaint):
            compare.main([CRATE, *others, "--out", str(tmp_path / "none"), *TINY, "epochs=null", "steps=2"])
    assert not (tmp_path / "none").exists()  # nothing is trained before


def test_evaluation_is_not_in_the_throughput(tiny_run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate_as_ever = Trainer.evaluate

    def slowly(trainer: Trainer, log: object) -> None:
        evaluate_as_ever(trainer, log)
        time.sleep(1)

    monkeypatch.setattr(Trainer, "evaluate", slowly)
    told = read_metrics(tiny_run("crate", "evaluate_every=2", "log_every=2") / "metrics.jsonl")
    rates = [entry["images_per_second"] for entry in told if entry["split"] == "train"]
    assert len(rates) == 3 and min(rates) > 2 * 64  # two steps of 64 in less than the second that was slept
