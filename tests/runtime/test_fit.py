"""Networks constructed from data: the command, what it leaves, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import crate_dsl
from runtime import evaluate, export, fit
from runtime.errors import UserError

SPECS = Path(__file__).parents[2] / "specs"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fit") / "out"
    fit.main([str(SPECS / "redunet.crate"), "L=3", "--out", str(out)])
    return out


def test_what_the_weights_are_good_for_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    fit.main([str(SPECS / "redunet.crate"), "L=1", "--out", str(out)])
    printed = capsys.readouterr().out
    assert "is for runtime.export: evaluate, probe and report ask for a head that has a loss" in printed
    export.main([str(out / "weights.safetensors"), "--format", "safetensors", "-o", str(tmp_path / "redunet.st")])
    with pytest.raises(UserError, match="without a loss"):
        evaluate.main([str(out / "weights.safetensors")])


def test_a_constructed_network_classifies(folder: Path) -> None:
    """Without a single gradient; ten equally frequent classes, so that chance is 0.1."""
    figures = json.loads((folder / "figures.json").read_text())["figures"]
    assert min(figures["output"].values()) > 0.95


def test_layers_raise_what_they_ascend(folder: Path) -> None:
    curve = json.loads((folder / "figures.json").read_text())["rate_reduction"]
    assert len(curve) == 4 and curve == sorted(curve)


def test_the_weights_are_those_of_the_network(folder: Path) -> None:
    """They load into the network of the spec, which then treats every sample by itself."""
    network = crate_dsl.load(SPECS / "redunet.crate", preset="digits", L=3).double()
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    _, held_out, _ = fit.digits(64)
    alone = network(held_out.vectors[:, :1])
    torch.testing.assert_close(network(held_out.vectors)[:, :1], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["redunet.crate", "d=65"], "digits have 64, 256 or 1024"),
        (["redunet.crate", "K=9"], "the data have 10 classes"),
        (["crate.crate"], "no step of this network is fitted"),
    ],
)
def test_what_cannot_be_fitted(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        fit.main([str(SPECS / words[0]), *words[1:], "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_fitted_tokens_are_the_output(tmp_path: Path) -> None:
    spec = tmp_path / "classified.crate"
    spec.write_text((SPECS / "redunet.crate").read_text().replace("head tokens", "head classify(K) of mean"))
    with pytest.raises(UserError, match='classified.crate: .*"head tokens"'):
        fit.main([str(spec), "L=1", "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_layers_are_whole_and_the_rate_has_a_unit() -> None:
    figure = fit.drawn([0.1, 0.2, 0.3, 0.35])
    (axis,) = figure.axes
    assert all(float(place).is_integer() for place in axis.get_xticks()) and axis.get_ylabel().endswith(", nats")
