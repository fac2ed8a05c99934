"""A network whose layers share parameters is trained, resumed, evaluated and exported like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from runtime import convert, evaluate, export, finetune, train
from runtime.errors import Stopped
from runtime.exporting import huggingface
from runtime.storage import checkpoint
from runtime.storage.trained import network_of
from tests.runtime.conftest import SPECS, TINY
from tests.runtime.test_resume import assert_same_end, stop_after

SMALL = [*TINY, "sizes.L=2", "epochs=null"]
PAIR = ("encoder.0.compress.U", "encoder.1.compress.U")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    file = tmp_path / "shared.crate"
    text = (SPECS / "crate.crate").read_text(encoding="utf-8")
    file.write_text(text.replace("encoder repeat L {", "encoder repeat L {\n    shared U, D"), encoding="utf-8")
    return file


def trained(spec: Path, name: str) -> Path:
    """A run of two layers, with averaged weights."""
    out = spec.parent / name
    train.main([str(spec), "--out", str(out), *SMALL, "ema=0.9", "steps=6"])
    return out


def shared(weights: dict[str, Tensor]) -> bool:
    return torch.equal(*(weights[name] for name in PAIR))


def test_it_is_trained_resumed_and_evaluated(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = trained(spec, "straight")
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Stopped):
            trained(spec, "stopped")
    train.main(["--resume", str(spec.parent / "stopped")])
    assert_same_end(straight, spec.parent / "stopped")
    assert shared(safetensors.torch.load_file(straight / "weights.safetensors"))
    first = json.loads((straight / "evaluation-held_out.json").read_text())
    evaluate.main([str(straight)])
    assert json.loads((straight / "evaluation-held_out.json").read_text()) == first


def test_other_commands_read_it(spec: Path, tmp_path: Path) -> None:
    run, out = trained(spec, "run"), tmp_path / "out"
    for kind, name in (("safetensors", "w.safetensors"), ("torch", "w.pt2"), ("onnx", "w.onnx"), ("huggingface", "hf")):
        export.main([str(run), "--format", kind, "-o", str(out / name)])
    found = network_of(out / "w.safetensors").compiled.module
    assert found.encoder[0].compress.U is found.encoder[1].compress.U and shared(found.state_dict())
    convert.main([str(run), "--to-official", "-o", str(tmp_path / "official.pth")])
    finetune.main([str(run), str(spec), "--out", str(tmp_path / "tuned"), *SMALL, "steps=1"])
    assert shared(checkpoint.load_weights(tmp_path / "tuned" / "weights.safetensors")[0])


def test_transformers_shares_after_loading_and_saves_again(spec: Path, tmp_path: Path) -> None:
    run, folder = trained(spec, "run"), tmp_path / "hf"
    export.main([str(run), "--format", "huggingface", "-o", str(folder)])
    with huggingface.package(folder) as wrapper:
        model = wrapper.CrateModel.from_pretrained(folder)
        model.save_pretrained(tmp_path / "again")
        again = wrapper.CrateModel.from_pretrained(tmp_path / "again")
    for each in (model.network, again.network):
        assert each.encoder[0].compress.U is each.encoder[1].compress.U
        assert all(torch.equal(value, each.state_dict()[name]) for name, value in model.network.state_dict().items())
