"""Training with energies in the loss: one forward pass, both parts logged, and runs that depend on no other file."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import crate_dsl
from runtime import compare, evaluate, train
from runtime.data.source import Batch
from runtime.errors import Stopped, UserError
from runtime.network import Shape
from runtime.recipe.schema import SOURCES, TASKS
from runtime.scoring.measure import measure
from runtime.storage import checkpoint
from runtime.storage.log import read_metrics
from runtime.training.penalty import Call
from tests.runtime.conftest import SPECS, TINY
from tests.runtime.test_resume import assert_same_end, stop_after

SRR, CRATE = SPECS / "crate_srr.crate", SPECS / "crate.crate"
SMALL = {"image": 16, "patch": 4, "d": 8, "K": 2, "L": 1}


def run(spec: Path, out: Path, *overrides: str, steps: int = 6) -> Path:
    words = [str(spec), "--recipe", "classify_digits", "--out", str(out), *TINY, "epochs=null", f"steps={steps}"]
    train.main([*words, *overrides])
    return out


def weights_of(folder: Path) -> dict[str, Tensor]:
    return checkpoint.load_weights(folder / "weights.safetensors")[0]


def network() -> nn.Module:
    torch.manual_seed(0)
    return crate_dsl.load(SRR, preset="digits", **SMALL)


# ---- one step --------------------------------------------------------------------------------------------------------


def test_a_step_adds_the_penalty_in_one_forward_pass() -> None:
    module, images = network(), torch.rand(4, 1, 16, 16)
    passes: list[int] = []
    module.head.register_forward_hook(lambda *_: passes.append(1))
    call = Call(module, compiled=False)
    data = TASKS["classify"]().loss(call, module, Batch(images, torch.arange(4)), None)
    penalty = call.penalty()
    assert len(passes) == 1
    torch.testing.assert_close(penalty, module.forward_with_penalty(images)[1])
    (data + penalty).backward()
    assert module.encoder[0].compress.U.grad.isfinite().all()


def test_a_task_may_call_more_than_once() -> None:
    module = network()
    call, parts = Call(module, compiled=False), torch.rand(2, 4, 1, 16, 16).unbind()
    for images in parts:
        torch.testing.assert_close(call(images), module(images))
    wanted = torch.stack([module.forward_with_penalty(images)[1] for images in parts]).mean()
    torch.testing.assert_close(call.penalty(), wanted)


def test_evaluation_averages_over_all_images() -> None:
    module, held_out = network(), SOURCES["digits"](enlarge=2).open(Shape.of(network())).held_out
    figures = measure(TASKS["classify"](), module, held_out, 100, "float32")
    everything = held_out.take(range(len(held_out)), None)
    assert figures["penalty"] == pytest.approx(module.forward_with_penalty(everything.images)[1].item(), rel=1e-5)
    plain = crate_dsl.load(CRATE, preset="digits", **SMALL)
    assert "penalty" not in measure(TASKS["classify"](), plain, held_out, 100, "float32")


# ---- whole runs ------------------------------------------------------------------------------------------------------


def test_both_parts_are_logged_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run(SRR, tmp_path / "run")
    for entry in read_metrics(folder / "metrics.jsonl"):
        if entry["split"] == "train":
            assert entry["loss"] == pytest.approx(entry["data"] + entry["penalty"]) and entry["penalty"] != 0
        else:
            assert {"accuracy", "cross_entropy", "penalty"} <= entry.keys()
    evaluate.main([str(folder)])
    assert "what the energies of the loss add to it" in capsys.readouterr().out


def test_a_penalty_of_weight_zero_is_no_penalty(tmp_path: Path) -> None:
    """The network is the same, so are its draws: what differs is the loss, and the last layer's order of additions."""
    plain = run(CRATE, tmp_path / "plain")
    zero, some = (run(SRR, tmp_path / name, f"sizes.weight={weight}") for name, weight in (("zero", 0), ("some", 1e-2)))
    assert weights_of(zero).keys() == weights_of(plain).keys()
    for name, value in weights_of(plain).items():
        torch.testing.assert_close(weights_of(zero)[name], value, rtol=1e-4, atol=1e-6)
    assert any((weights_of(some)[name] - value).abs().max() > 1e-4 for name, value in weights_of(plain).items())


@pytest.mark.parametrize("overrides", [["ema=0.9"], ["accumulate=4", "precision=bfloat16"]])
def test_a_stopped_run_ends_as_one_that_was_not(
    overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run(SRR, tmp_path / "straight", *overrides)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            run(SRR, tmp_path / "halves", *overrides)
    train.main(["--resume", str(tmp_path / "halves")])
    assert_same_end(straight, tmp_path / "halves")


def test_accumulation_is_the_same_batch(tmp_path: Path) -> None:
    folders = [run(SRR, tmp_path / f"parts{parts}", f"accumulate={parts}") for parts in (1, 4)]
    logged = [
        [e["penalty"] for e in read_metrics(folder / "metrics.jsonl") if e["split"] == "train"] for folder in folders
    ]
    assert logged[0] == pytest.approx(logged[1], rel=1e-3)


def test_compiled_runs_train_the_penalty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module: torch.nn.Sequential(module))  # the real one takes a minute
    compiled, plain = (run(SRR, tmp_path / name, f"compile={name}") for name in ("true", "false"))
    assert all(torch.equal(weights_of(compiled)[name], value) for name, value in weights_of(plain).items())


def test_side_by_side_with_a_network_without_penalty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main([str(CRATE), str(SRR), "--out", str(tmp_path / "both"), *TINY, "epochs=null", "steps=2"])
    table = capsys.readouterr().out.partition("held out")[2]
    assert "penalty" in table and "crate_srr" in table


def test_a_loss_that_is_not_finite_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Call, "penalty", lambda self: torch.tensor(math.nan))
    with pytest.raises(UserError, match="the loss is nan: the outputs of all steps are finite"):
        run(SRR, tmp_path / "run")


# ---- what a run depends on -------------------------------------------------------------------------------------------


def test_a_run_does_not_depend_on_the_files_that_were_included(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, mine = tmp_path / "own.crate", tmp_path / "mine.crate"
    shutil.copy(crate_dsl.__path__[0] + "/library/energies/rates.crate", mine)
    spec.write_text(SRR.read_text().replace("include rates", 'include "mine.crate"'))
    straight = run(spec, tmp_path / "straight")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Stopped):
            run(spec, tmp_path / "halves")
    before = mine.read_text()
    mine.write_text(before.replace("1/2", "1/3"))
    with pytest.raises(UserError, match="this run is not of .*own.crate as it stands now.*: leave .*own.crate out"):
        train.main([str(spec), "--resume", str(tmp_path / "halves")])
    mine.unlink()
    train.main(["--resume", str(tmp_path / "halves")])
    assert_same_end(straight, tmp_path / "halves")
    origin = checkpoint.load_weights(straight / "weights.safetensors")[1]
    assert origin["spec"] == (straight / "spec.crate").read_text() and 'include "' not in origin["spec"]
    mine.write_text(before)
    assert crate_dsl.compile_spec(spec).resolved == origin["spec"]
