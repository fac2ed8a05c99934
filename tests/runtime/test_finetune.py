"""Starting from the weights of another network: what is taken is taken exactly, and all else is told or refused."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

import pytest
import torch
import yaml
from torch.nn import functional as F

import crate_dsl
from runtime import compare, finetune, train
from runtime.errors import Stopped, UserError
from runtime.network import compile_network
from runtime.recipe import recipes
from runtime.storage import checkpoint
from runtime.storage.log import read_metrics
from runtime.training.trainer import Trainer
from runtime.transfer.taking import taking
from tests.runtime.conftest import SPECS, Train, Weights

SIZES = {"image": 16, "patch": 4, "channels": 1, "d": 8, "K": 2, "L": 2}
TINY = ["sizes.d=8", "sizes.K=2", "sizes.L=2", "batch=64", "epochs=null", "evaluate_every=4", "checkpoint_every=3"]


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """CRATE-MAE's encoder with the head of a classifier."""
    spec = (SPECS / "crate_mae.crate").read_text(encoding="utf-8")
    lines = [line for line in spec.splitlines() if not line.startswith(("mask ", "decoder ", "head "))]
    text = "\n".join(lines).replace("norm layer(1e-6)\nnorm layer(1e-6)", "norm layer(1e-6)")
    text = text.replace("channels = 3\n", "channels = 3, classes = 10\n") + "\nhead classify(classes) of class_token\n"
    file = tmp_path / "classifier.crate"
    file.write_text(text, encoding="utf-8")
    return file


def finetuned(source: Path, spec: Path, out: Path, *words: str, steps: int = 4) -> Path:
    options = ["--recipe", "classify_digits", "--out", str(out)]
    finetune.main([str(source), str(spec), *options, *TINY, f"steps={steps}", *words])
    return out


def test_an_autoencoders_encoder_becomes_a_classifier(
    weights_of: Weights, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = weights_of("crate_mae", **SIZES)
    run = finetuned(file, classifier, tmp_path / "run", "--freeze", "optimizer.weight_decay=0.5", "ema=null")
    printed = capsys.readouterr().out
    source, _ = checkpoint.load_weights(file)
    weights, _ = checkpoint.load_weights(run / "weights.safetensors")
    fresh = compile_network(classifier, None, SIZES).module.state_dict()
    for name, value in weights.items():  # frozen, so what was taken is there after training
        if name.startswith("head."):
            assert not torch.equal(value, fresh[name])
        else:
            assert torch.equal(value, source[name]), name
    kept = json.loads((run / "initialisation.json").read_text())
    assert kept["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert set(kept["tensors"]) == set(weights) and kept["tensors"]["head.weight"][0] == "re-initialised"
    assert set(kept["left_over"]) == (set(source) - set(weights)) | {"head.weight", "head.bias"}
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())["initialisation"]
    assert recipe == {"weights": str(file), "sha256": kept["sha256"], "freeze": True}
    assert "encoder.*.compress.U " in printed and "mask_token" in printed and "left over" in printed


@pytest.mark.parametrize("source", ["crate_mae", "crate_dino"])
def test_the_classifier_that_the_linear_probe_asks_for(source: str, weights_of: Weights, tmp_path: Path) -> None:
    """As probe_imagenet.yaml says: crate.crate with the stem of the encoder."""
    text, theirs = ((SPECS / f"{name}.crate").read_text(encoding="utf-8").splitlines() for name in ("crate", source))
    lines = [line for line in text if not line.startswith(("tokens ", "init "))]
    place = next(number for number, line in enumerate(lines) if line.startswith("input ")) + 1
    spec = "\n".join(
        [*lines[:place], *(line for line in theirs if line.startswith(("tokens ", "init "))), *lines[place:]]
    )
    assert "of class_token" in spec
    (tmp_path / "probe.crate").write_text(spec if source == "crate_mae" else spec.replace("of class_token", "of mean"))
    run = finetuned(weights_of(source, **SIZES), tmp_path / "probe.crate", tmp_path / "run", "--freeze", "ema=null")
    assert "accuracy" in (run / "evaluation-held_out.json").read_text()


@pytest.mark.parametrize("freeze", [True, False])
def test_statistics_of_batch_norms_freeze_too(freeze: bool, weights_of: Weights, tmp_path: Path) -> None:
    sizes = {**SIZES, "drop": 0}
    file, words = weights_of("tost_vision", **sizes), ["--freeze"] if freeze else []
    run = finetuned(file, SPECS / "tost_vision.crate", tmp_path / "run", *words, "ema=null", steps=2)
    source, _ = checkpoint.load_weights(file)
    weights, _ = checkpoint.load_weights(run / "weights.safetensors")
    names = [name for name in weights if name.endswith(("running_mean", "running_var"))]
    assert len(names) == 4 and all(torch.equal(weights[name], source[name]) is freeze for name in names)


def test_what_is_frozen_works_as_in_evaluation(weights_of: Weights, tmp_path: Path) -> None:
    """The head learns from the features that it is judged on: no step is left out, batch norms use what they have."""
    sizes = {**SIZES, "drop": 0.5}
    file = weights_of("tost_vision", **sizes)
    words = ["--freeze", "ema=null", "sizes.drop=0.5", "overfit=64", "log_every=1", "optimizer.lr=1e-12"]
    run = finetuned(file, SPECS / "tost_vision.crate", tmp_path / "run", *words, "schedule.warmup=0", steps=2)
    told = read_metrics(run / "metrics.jsonl")
    (held_out,) = (entry for entry in told if entry["split"] == "held_out")
    losses = [entry["loss"] for entry in told if entry["split"] == "train"]
    assert losses == pytest.approx([held_out["cross_entropy"]] * 2, rel=1e-5)
    weights, _ = checkpoint.load_weights(run / "weights.safetensors")
    assert not any(value for name, value in weights.items() if name.endswith("num_batches_tracked"))


def test_without_freeze_everything_learns(weights_of: Weights, classifier: Path, tmp_path: Path) -> None:
    file = weights_of("crate_mae", **SIZES)
    run = finetuned(file, classifier, tmp_path / "run", "ema=null", "schedule.warmup=0")
    source, weights = (checkpoint.load_weights(path)[0] for path in (file, run / "weights.safetensors"))
    assert not any(torch.equal(weights[name], source[name]) for name in weights if name.startswith("encoder."))


def test_other_classes(weights_of: Weights) -> None:
    source = compile_network(SPECS / "crate.crate", None, SIZES | {"classes": 7}, seed=1).module
    target = compile_network(SPECS / "crate.crate", None, SIZES | {"classes": 10}, seed=2).module
    found = taking(source, target)
    assert found.names("re-initialised") == ["head.weight", "head.bias"]
    assert found.names("left over") == ["head.weight", "head.bias"]
    assert all(torch.equal(found.values[name], source.state_dict()[name]) for name in found.names("taken"))
    same = taking(source, compile_network(SPECS / "crate.crate", None, SIZES | {"classes": 7}, seed=3).module)
    assert same.names("re-initialised", "left over") == []  # also the head


def official(position: torch.Tensor, old: int, new: int) -> torch.Tensor:
    """`interpolate_pos_embed` of facebookresearch/mae, util/pos_embed.py, for one class token."""
    extra, tokens = position[:, :1], position[:, 1:]
    tokens = tokens.reshape(-1, old, old, position.shape[-1]).permute(0, 3, 1, 2)
    tokens = F.interpolate(tokens, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat((extra, tokens.permute(0, 2, 3, 1).flatten(1, 2)), dim=1)


def test_another_image_size(weights_of: Weights) -> None:
    small = compile_network(SPECS / "crate.crate", None, SIZES | {"classes": 7}, seed=1).module
    large = compile_network(SPECS / "crate.crate", None, SIZES | {"classes": 7, "image": 32}, seed=2).module
    found = taking(small, large)
    assert found.names("interpolated") == ["position"]
    assert torch.allclose(found.values["position"], official(small.position, 4, 8), atol=1e-6)
    masked = [compile_network(SPECS / "crate_mae.crate", None, SIZES | {"image": side}).module for side in (16, 32)]
    fixed = taking(*masked)
    assert fixed.names("of the spec") == ["position"] and "position" not in fixed.values


def test_the_same_number_of_patches_in_another_grid(tmp_path: Path) -> None:
    """4 x 4 and 2 x 8 patches are both 16: the shape alone does not say that a position is the same place."""
    text = (SPECS / "crate.crate").read_text(encoding="utf-8")
    wide = tmp_path / "wide.crate"
    wide.write_text(text.replace("image(channels, image, image)", "image(channels, 8, 32)"), encoding="utf-8")
    source = compile_network(SPECS / "crate.crate", None, SIZES | {"classes": 7}).module
    found = taking(source, compile_network(wide, None, SIZES | {"classes": 7}, seed=2).module)
    assert found.names("interpolated") == ["position"]


def test_less_than_the_encoder(weights_of: Weights, classifier: Path, tmp_path: Path) -> None:
    file = weights_of("crate_mae", **SIZES)
    out = tmp_path / "run"
    with pytest.raises(UserError, match=r"encoder.2.compress.U: the weights have none(.|\n)*CrateMae, .*L = 2"):
        finetuned(file, classifier, out, "sizes.L=3")
    with pytest.raises(UserError, match="encoder.0.compress.U: 8 x 8 there, 12 x 12 here") as refused:
        finetuned(file, classifier, out, "sizes.d=12")
    assert "\nd is 8 there and 12 here" in str(refused.value) and "sizes.NAME=VALUE" in str(refused.value)
    exact = weights_of("crate_mae_exact", name="exact", **SIZES)
    with pytest.raises(UserError, match="encoder.0.compress.U_out: the weights have none"):
        finetuned(exact, classifier, out)
    assert not out.exists()


def test_what_shapes_do_not_tell(
    weights_of: Weights, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same matrices split into other heads, and another threshold: taken, but said."""
    file = weights_of("crate_mae", **SIZES)
    finetuned(file, classifier, tmp_path / "run", "sizes.K=4", "sizes.lambda=0.1", steps=1)
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: K is 2 there and 4 here", "note: p is 4 there and 2 here", "note: lambda is 0.5 there and 0.1 here"
    ]  # fmt: skip


def test_freezing_refuses_what_would_stay_random(weights_of: Weights, tmp_path: Path) -> None:
    file = weights_of("crate_mae", **SIZES)  # its stem has no norms
    with pytest.raises(UserError, match="would stay as initialised: .*patches.norm_in.weight"):
        finetuned(file, SPECS / "crate.crate", tmp_path / "run", "--freeze")
    dino = weights_of("crate_dino", name="dino", image=16, patch=4, channels=1, d=8, K=2, L=1)
    words = [
        "--recipe",
        "simdino_digits",
        "--freeze",
        "sizes.d=8",
        "sizes.K=2",
        "sizes.L=1",
        "--out",
        str(tmp_path / "b"),
    ]
    with pytest.raises(UserError, match="the head of this network has no parameters"):
        finetune.main([str(dino), str(SPECS / "crate_dino.crate"), *words])


def test_a_recipe_that_states_the_hash(weights_of: Weights, classifier: Path, tmp_path: Path) -> None:
    file = weights_of("crate_mae", **SIZES)
    start = [f"initialisation.weights={file}", f"initialisation.sha256={'f' * 64}"]
    words = [str(classifier), "--recipe", "classify_digits", *TINY, "steps=1", "--out", str(tmp_path / "run")]
    with pytest.raises(UserError, match="is not the file of the recipe: its sha256 is"):
        train.main([*words, *start])
    with pytest.raises(UserError, match="initialisation is given by"):
        finetune.main([str(file), *words, *start])
    with pytest.raises(UserError, match='unknown key "initialisation.frezee"(.|\n)*Did you mean "freeze"'):
        train.main([*words, start[0], "initialisation.frezee=true"])


@pytest.mark.parametrize("freeze", [[], ["--freeze"]])
def test_resuming_is_exact_and_needs_the_file_no_more(
    freeze: list[str], weights_of: Weights, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights_of("crate_mae", **SIZES)
    straight = finetuned(file, classifier, tmp_path / "straight", *freeze, steps=6)
    update = Trainer.update

    def stopping(self: Trainer, *arguments: object) -> dict[str, float]:
        if self.step == 2:
            self.signal = signal.SIGTERM
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", stopping)
    with pytest.raises(Stopped):
        finetuned(file, classifier, tmp_path / "halves", *freeze, steps=6)
    monkeypatch.setattr(Trainer, "update", update)
    file.unlink()
    train.main(["--resume", str(tmp_path / "halves")])
    whole, halves = (checkpoint.load_weights(run / "weights.safetensors")[0] for run in (straight, tmp_path / "halves"))
    assert all(torch.equal(whole[name], halves[name]) for name in whole)


def test_the_best_weights_of_a_run(tiny_run: Train, classifier: Path, tmp_path: Path) -> None:
    run = tiny_run("crate_mae", "sizes.image=16", "sizes.patch=4", "sizes.L=2", "data.enlarge=2")
    out = finetuned(run, classifier, tmp_path / "tuned", "--weights", "best", steps=1)
    kept = recipes.load(out / "recipe.yaml").initialisation
    assert kept.weights == run / "best.safetensors"


def test_networks_that_are_compared_start_from_scratch(weights_of: Weights, tmp_path: Path) -> None:
    file = weights_of("crate", **SIZES, classes=10)
    words = [f"initialisation.weights={file}", *TINY, "steps=1", "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="leave initialisation out"):
        compare.main([str(SPECS / "crate.crate"), "--recipe", "classify_digits", *words])


def test_the_start_computes_what_the_encoder_did(weights_of: Weights, classifier: Path) -> None:
    source = crate_dsl.load(SPECS / "crate_mae.crate", **SIZES).eval()
    target = crate_dsl.load(classifier, **SIZES).eval()
    target.load_state_dict(taking(source, target).values, strict=False)
    source.mask_ratio = 0.0
    images = torch.randn(2, 1, 16, 16)
    assert torch.equal(target.features(images)["encoder_norm"], source.features(images)["encoder_norm"])
