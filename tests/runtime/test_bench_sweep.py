"""The sweep: operators that compute what the written files compute, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import crate_dsl
from runtime.bench.__main__ import main
from runtime.bench.operators import BETA, OPERATORS
from tests.runtime.conftest import SPECS

HEADS, WIDTH, COUNT = 3, 4, 9
SIZES = {"d": HEADS * WIDTH, "K": HEADS, "p": WIDTH, "L": 1}
IMAGES = {"image": 6, "patch": 2, "channels": 1, "classes": 2}
TEXT = {"length": COUNT, "vocabulary": 5}
WRITTEN = {  # the step of a written file that computes each operator, between norm and read-out
    "softmax": ("crate.crate", IMAGES, 1.0),
    "exact": ("crate_exact.crate", IMAGES, -1.0),
    "TSSA": ("tost.crate", IMAGES, 1.0),
    "causal softmax": ("crate_gpt.crate", TEXT, 1.0),
    "causal exact": ("crate_gpt_exact.crate", TEXT, -1.0),
    "causal TSSA": ("tost_causal.crate", TEXT, 1.0),
}


def first_step(spec: str, sizes: dict[str, int]) -> nn.Module:
    """The first step of a network, its maps the identity, steps 1 and biases 0."""
    network = crate_dsl.load(SPECS / spec, **SIZES, **sizes).double()
    step = next(iter(network.encoder[0].children()))
    step.norm = nn.Identity()
    with torch.no_grad():
        for name, parameter in step.named_parameters():
            if name in ("U", "U_out"):
                parameter.copy_(torch.eye(HEADS * WIDTH))
            elif name in ("b", "bias", "U_bias"):
                parameter.zero_()
            elif name == "log_beta":
                parameter.fill_(torch.tensor(BETA, dtype=torch.float64).log())
            elif name == "kappa":
                parameter.fill_(1 / BETA)
            else:
                parameter.fill_(1.0)
    return step


@pytest.mark.parametrize("label", OPERATORS)
def test_operators_are_those_of_the_written_files(label: str) -> None:
    spec, sizes, sign = WRITTEN[label]
    step = first_step(spec, sizes)
    torch.manual_seed(0)
    z = torch.randn(2, 9, HEADS * WIDTH, dtype=torch.float64)
    w = z.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2)

    def merged(x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)

    torch.testing.assert_close(step(z) - z, sign * merged(OPERATORS[label](w)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("label", [label for label in OPERATORS if label.startswith("causal")])
def test_causal_operators_ignore_what_comes_later(label: str) -> None:
    torch.manual_seed(0)
    w = torch.randn(1, HEADS, 70, WIDTH, dtype=torch.float64)
    other = w.clone()
    other[:, :, 40:] = torch.randn_like(other[:, :, 40:])
    first, second = (OPERATORS[label](x)[:, :, :40] for x in (w, other))
    torch.testing.assert_close(first, second, rtol=1e-10, atol=1e-12)


def test_what_a_sweep_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = ["--tokens", "8,16", "--heads", "1,2", "--depths", "1,2"]
    words = [str(SPECS / "crate.crate"), "--preset", "digits", "--batch", "2", "--rounds", "2"]
    main([*words, "--sweep", *lists, "--out", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bench.json", "bench.svg", "bench.png"}
    sweep = json.loads((tmp_path / "out" / "bench.json").read_text())["sweep"]
    places = {name: sorted({point["at"] for point in axis["points"]}) for name, axis in sweep.items()}
    assert places == {"tokens": [8, 16], "width": [16, 32], "depth": [1, 2]}
    assert {point["label"] for point in sweep["tokens"]["points"]} == set(OPERATORS)
    assert {point["label"] for point in sweep["width"]["points"]} == {"compiled", "official"}
    for axis in sweep.values():
        for point in axis["points"]:
            assert len(point["forward_seconds"]) == len(point["training_step_seconds"]) == 2
            assert point["training_step_peak_bytes"] > 0
    assert all(0 < p["output_error"] < 1e-4 and 0 < p["gradient_error"] < 1e-3 for p in sweep["tokens"]["points"])
    printed = capsys.readouterr()
    assert "relative error to float64" in printed.out
    assert "softmax/exact" in printed.out and "official/compiled" in printed.out
    assert printed.err == ""
