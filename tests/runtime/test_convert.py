"""Official weights: nothing is lost, everything that does not fit is listed, nothing in a file is executed."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crate_dsl
from runtime import command, convert
from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.recipe.schema import TASKS
from runtime.storage import checkpoint
from runtime.weights.conversion import convert_state
from runtime.weights.places import roles
from tests.runtime.conftest import DATA, SPECS

SIZES = {
    "crate": {"image": 16, "patch": 4, "classes": 5, "d": 24, "K": 3, "L": 2},
    "crate_mae": {"image": 16, "patch": 4, "d": 32, "K": 4, "L": 2},
    "crate_alpha": {"image": 16, "patch": 4, "classes": 5, "d": 24, "K": 3, "L": 2},
}
STORED = {"crate": "crate_cls", "crate_mae": "mae_normpix_false", "crate_alpha": "crate_alpha"}


def golden(name: str, part: str) -> dict[str, Tensor]:
    with np.load(DATA / f"{name}.npz") as file:
        return {key[len(part) + 1 :]: torch.as_tensor(file[key]) for key in file if key.startswith(f"{part}/")}


def network(spec: str) -> nn.Module:
    return crate_dsl.load(SPECS / f"{spec}.crate", **SIZES[spec]).double()


def relative(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).detach().norm() / theirs.norm())


@pytest.mark.parametrize("normalise", [False, True])
def test_the_official_masked_loss_and_its_gradients(normalise: bool) -> None:
    """The loss of task `mae` is the official one, on official weights, with the official mask."""
    name = f"mae_normpix_{str(normalise).lower()}"
    module, task, data = network("crate_mae"), TASKS["mae"](normalise=normalise), golden(name, "in")
    module.load_state_dict(convert_state(golden(name, "param"), module))
    loss = task.loss(module, module, Batch(data["imgs"]), data["noise"])
    assert relative(loss, golden(name, "out")["loss"]) < 1e-10
    loss.backward()
    theirs = convert_state(golden(name, "grad"), module, complete=False)
    for key, parameter in module.named_parameters():
        assert relative(parameter.grad, theirs[key]) < 1e-10, key


@pytest.mark.parametrize("spec", ["crate", "crate_alpha"])
def test_the_official_logits(spec: str) -> None:
    module, stored = network(spec), STORED[spec]
    data = golden(stored, "in")
    module.load_state_dict(convert_state(golden(stored, "param"), module))
    logits = module(data["img"])
    assert relative(logits, golden(stored, "out")["logits"]) < 1e-10
    assert relative(F.cross_entropy(logits, data["labels"]), golden(stored, "out")["loss"]) < 1e-10


def test_the_names_of_a_users_matrices_do_not_matter() -> None:
    """A read-out is found by its place in the step, whatever it is called."""
    assert roles(["Phi", "Psi", "norm.weight"]) == {
        "norm.weight": "norm.weight", "Phi": "matrix", "Psi": "second"
    }  # fmt: skip
    assert roles(["V_out", "V", "V_bias"]) == {"V": "matrix", "V_out": "matrix_out", "V_bias": "matrix_bias"}


def save(tmp_path: Path, spec: str, wrap: str) -> Path:
    state = OrderedDict(golden(STORED[spec], "param"))
    content = {
        "bare": state,
        "state_dict": {"epoch": 3, "state_dict": state},
        "model": {"model": state, "args": {"lr": 1e-3}},
        "parallel": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    }[wrap]
    torch.save(content, tmp_path / "official.pth")
    return tmp_path / "official.pth"


def words(official: Path, spec: str, output: Path) -> list[str]:
    sizes = [f"{name}={value}" for name, value in SIZES[spec].items()]
    return [str(official), str(SPECS / f"{spec}.crate"), "--set", *sizes, "-o", str(output)]


@pytest.mark.parametrize("spec", SIZES)
@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model", "parallel"])
def test_the_command(spec: str, wrap: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "weights.safetensors"
    convert.main(words(save(tmp_path, spec, wrap), spec, output))
    weights, origin = checkpoint.load_weights(output)
    network(spec).load_state_dict(weights)
    assert origin["spec"] == (SPECS / f"{spec}.crate").read_text(encoding="utf-8")
    printed = capsys.readouterr().out
    dead = ["pos_embed", "decoder_embed.weight", "decoder_embed.bias"] if spec == "crate_mae" else []
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("unused")] == dead


def test_every_mistake_is_listed() -> None:
    module, state = network("crate"), golden("crate_cls", "param")
    state["cls_token"] = torch.zeros(1, 1, 7)
    state["surprise"] = torch.zeros(2)
    state["transformer.layers.9.0.fn.qkv.weight"] = torch.zeros(24, 24)
    del state["mlp_head.1.bias"]
    with pytest.raises(UserError) as error:
        convert_state(state, module)
    lines = [line.split() for line in str(error.value).splitlines()[1:]]
    assert [line[:2] for line in lines] == [
        ["misshapen:", "cls_token"],
        ["unexpected:", "surprise"],
        ["unexpected:", "transformer.layers.9.0.fn.qkv.weight"],
        ["missing:", "head.bias"],
    ]


def test_nothing_is_written_on_error(tmp_path: Path) -> None:
    output = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="missing: "):
        convert.main(words(save(tmp_path, "crate", "bare"), "crate_mae", output))
    assert not output.exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"junk", "without running code"), ([1, 2], "holds no state dict"), ({"a": 1}, "holds no state dict")],
)
def test_files_that_are_no_weights(content: object, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "official.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=complaint):
        convert.main(words(path, "crate", tmp_path / "out"))


def test_settings_are_numbers() -> None:
    assert command.settings(["d=32", "lambda=0.5", "sigma=1e-3"]) == {"d": 32, "lambda": 0.5, "sigma": 1e-3}
    for wrong in ("d", "d=", "d=many", "d=true", "d=[1]", "d=[", "d=1e-", "d=nan"):
        with pytest.raises(UserError, match="not of the form name=number"):
            command.settings([wrong])
