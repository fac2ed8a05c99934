"""What is exported computes what the network computes, says which network it is, and is whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest
import torch

import crate_dsl
from crate_dsl import cli
from runtime import export
from runtime.errors import UserError
from runtime.exporting import comparison, huggingface
from runtime.storage import checkpoint
from runtime.storage.trained import network_of
from tests.runtime.conftest import SPECS, Train, Weights

IMAGE = {"image": 16, "patch": 4, "channels": 1, "d": 8, "K": 2, "L": 1}
TEXT = {"length": 16, "vocabulary": 50, "d": 8, "K": 2, "L": 1}
SIZES = {
    "crate": IMAGE | {"classes": 10},
    "crate_exact": IMAGE | {"classes": 10},
    "crate_mae": IMAGE,
    "crate_autoencoder": IMAGE,
    "crate_dino": IMAGE,
    "tost_vision": IMAGE | {"classes": 10},
    "crate_gpt": TEXT,
    "crate_bert": TEXT,
    "aot": {"L": 1},
}


def inputs(network: torch.nn.Module, batch: int) -> dict[str, torch.Tensor]:
    """Other numbers than the exporter compares with."""
    found = comparison.inputs_of(network, batch)
    return {name: (value + 1) % 50 if value.dtype == torch.int64 else value * 0.7 for name, value in found.items()}


def outputs(network: torch.nn.Module, given: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        result = network(**given)
    return result if isinstance(result, tuple) else (result,)


FROZEN = ("crate", ["--freeze"])


@pytest.mark.parametrize(("spec", "freeze"), [*((spec, []) for spec in SIZES), FROZEN])
def test_torch_export(spec: str, freeze: list[str], weights_of: Weights, tmp_path: Path) -> None:
    file, out = weights_of(spec, **SIZES[spec]), tmp_path / "program.pt2"
    export.main([str(file), "--format", "torch", "-o", str(out), *freeze])
    origin = {"spec": "", "sizes": ""}
    program = torch.export.load(out, extra_files=origin).module()
    network = network_of(file).compiled.module.eval()
    assert origin["spec"] == checkpoint.load_weights(file)[1]["spec"]
    for batch in (1, 2, 7):
        given = inputs(network, batch)
        for ours, theirs in zip(outputs(network, given), outputs(program, given), strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-5 if freeze else 0, atol=1e-5 if freeze else 0)


@pytest.mark.parametrize(("spec", "freeze"), [*((s, []) for s in ("crate", "crate_mae", "crate_gpt", "aot")), FROZEN])
def test_onnx(spec: str, freeze: list[str], weights_of: Weights, tmp_path: Path) -> None:
    file, out = weights_of(spec, **SIZES[spec]), tmp_path / "network.onnx"
    export.main([str(file), "--format", "onnx", "-o", str(out), *freeze])
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    network = network_of(file).compiled.module.eval()
    assert session.get_modelmeta().custom_metadata_map["spec"] == checkpoint.load_weights(file)[1]["spec"]
    assert all(node.shape[0] == "batch" for node in session.get_inputs())
    for batch in (1, 2, 7):
        given = inputs(network, batch)
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        for ours, theirs in zip(outputs(network, given), found, strict=True):
            torch.testing.assert_close(torch.as_tensor(theirs), ours, rtol=1e-5, atol=1e-5)


def test_onnx_has_no_exact_solves(
    weights_of: Weights, tmp_path: Path, status: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = weights_of("crate_exact", **SIZES["crate_exact"]), tmp_path / "out" / "network.onnx"
    assert status(export, file, "--format", "onnx", "-o", out) == 1
    shown = capsys.readouterr().err
    assert "ONNX has no operator linalg_cholesky_ex: the spec's exact solves need it" in shown
    assert "Traceback" not in shown and list(out.parent.iterdir()) == []


def test_what_differs_is_not_written(weights_of: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: of a network whose weights changed in between, of numbers that are none."""
    network = network_of(weights_of("crate", **SIZES["crate"])).compiled.module.eval()
    for change in (1e-2, float("nan")):
        with pytest.raises(UserError, match="a trial: logits of a batch of 1 differ by"):
            comparison.largest_error("a trial", network, lambda given, by=change: {"logits": network(**given) + by})
    exact = comparison.largest_error("a trial", network, lambda given: {"logits": network(**given)})
    assert exact == 0.0


def test_safetensors(tiny_run: Train, tmp_path: Path) -> None:
    run, out = tiny_run("crate"), tmp_path / "new" / "crate.safetensors"
    export.main([str(run), "--format", "safetensors", "-o", str(out), "--weights", "best"])
    ours, theirs = network_of(run, "best").compiled, network_of(out).compiled
    assert ours.text == theirs.text
    assert all(torch.equal(value, theirs.module.state_dict()[name]) for name, value in ours.module.state_dict().items())


# ---- Hugging Face --------------------------------------------------------------------------------------------------

LOADING = """
import json, sys, torch
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

for folder in sys.argv[1:]:
    kinds = [AutoModel]
    if "AutoModelForImageClassification" in AutoConfig.from_pretrained(folder, trust_remote_code=True).auto_map:
        kinds.append(AutoModelForImageClassification)
    for kind in kinds:
        model, about = kind.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
        assert not any(about.values()), about
        given = torch.load(folder + ".inputs", weights_only=True)
        with torch.no_grad():
            found = model.eval()(**given, return_dict=False)
        wanted = torch.load(folder + ".outputs", weights_only=True)
        assert len(found) == len(wanted) and all(map(torch.equal, found, wanted)), folder
        print("equal", folder, kind.__name__)
"""


def test_transformers_opens_the_folder(weights_of: Weights, tmp_path: Path) -> None:
    """In a process of its own and without a connection: bit-equal outputs, all weights found."""
    folders = []
    for spec, sizes in SIZES.items():
        folder = tmp_path / spec
        file = weights_of(spec, name=f"{spec}_weights", **sizes)
        export.main([str(file), "--format", "huggingface", "-o", str(folder)])
        network = network_of(file).compiled.module.eval()
        given = inputs(network, 2)
        argument, first = huggingface.ARGUMENTS[network.input], next(iter(given))
        named = {argument if name == first else name: value for name, value in given.items()}
        torch.save(named, f"{folder}.inputs")
        torch.save(outputs(network, given), f"{folder}.outputs")
        folders.append(str(folder))
    settings = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | settings
    done = subprocess.run(
        [sys.executable, "-c", LOADING, *folders], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal") == len(SIZES) + 3  # three classifiers, each opened in two ways


def test_a_folder_that_computes_something_else_is_not_written(
    weights_of: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper that leaves the positions of `tost_vision` as transformers hands them out: empty memory."""
    file, folder = weights_of("tost_vision", **SIZES["tost_vision"]), tmp_path / "all" / "folder"
    lazy = huggingface.CODE.replace(".copy_(fresh.get_buffer(name))", ".fill_(7)")
    monkeypatch.setattr(huggingface, "CODE", lazy)
    with pytest.raises(UserError, match="transformers: logits of a batch of 1 differ by"):
        export.main([str(file), "--format", "huggingface", "-o", str(folder)])
    assert list(folder.parent.iterdir()) == []
    assert not any(name.startswith("crate_dsl_exported") for name in sys.modules)


def test_specs_with_buffers_outside_the_state_dict_are_among_those_opened() -> None:
    emptied = [path for path in SPECS.glob("*.crate") if "persistent=False" in crate_dsl.compile_spec(path).text]
    assert {path.stem for path in emptied} <= SIZES.keys()


def test_the_folder_is_what_the_compiler_writes(
    tiny_run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = tiny_run("crate", "sizes.eta=0.2"), tmp_path / "folder"
    export.main([str(run), "--format", "huggingface", "-o", str(folder)])
    card = (folder / "README.md").read_text(encoding="utf-8")
    command = card.partition("what `crate-compile ")[2].partition("`")[0]
    monkeypatch.chdir(folder)
    assert cli.main([*command.replace("network.py", "../again.py").split()]) == 0
    assert (tmp_path / "again.py").read_bytes() == (folder / "network.py").read_bytes()
    assert (folder / "spec.crate").read_bytes() == (run / "spec.crate").read_bytes()
    assert network_of(folder / "model.safetensors").compiled.text == (folder / "network.py").read_text(encoding="utf-8")


def test_the_card(tiny_run: Train, tmp_path: Path) -> None:
    run, folder = tiny_run("crate"), tmp_path / "folder"
    export.main([str(run), "--format", "huggingface", "-o", str(folder)])
    card = (folder / "README.md").read_text(encoding="utf-8")
    figures = json.loads((run / "evaluation-held_out.json").read_text())["figures"]
    assert f"| accuracy | {figures['accuracy']:.4g} |" in card
    assert r"\mathrm{softmax}" in card and "K = 2" in card and "name: classify" in card and card.startswith("---\n")
    export.main([str(run), "--format", "huggingface", "-o", str(tmp_path / "best"), "--weights", "best"])
    assert "## Figures" not in (tmp_path / "best" / "README.md").read_text(encoding="utf-8")  # those are the last's


def test_a_folder_is_whole_or_not_there(weights_of: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = weights_of("crate", **SIZES["crate"]), tmp_path / "all" / "folder"
    words = [str(file), "--format", "huggingface", "-o", str(folder)]

    def full(*_: object) -> None:
        raise UserError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(huggingface.checkpoint, "save_weights", full)
        with pytest.raises(UserError, match="the disk is full"):
            export.main(words)
    assert list(folder.parent.iterdir()) == []
    export.main(words)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match="exists already"):
        export.main(words)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(UserError, match="--freeze belongs to torch and onnx"):
        export.main([*words, "--freeze"])
    with pytest.raises(UserError, match="--recipe belongs to huggingface"):
        export.main([str(file), "--format", "safetensors", "-o", str(folder / "x"), "--recipe", "nonsense"])


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"weights": "last", "figures": 3}', '{"weights": "last", "figures": {"a": "b"}}']
)
def test_figures_that_are_none_are_one_message(content: str, tiny_run: Train, tmp_path: Path) -> None:
    run = tiny_run("crate", steps=1)
    (run / "evaluation-held_out.json").write_text(content)
    with pytest.raises(UserError, match="not what runtime.evaluate writes"):
        export.main([str(run), "--format", "huggingface", "-o", str(tmp_path / "folder")])
    assert not (tmp_path / "folder").exists()
