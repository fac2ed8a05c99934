"""The bench: baselines that compute the same, arithmetic that is right, files that are whole; never how fast it was."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crate_dsl import CrateError
from runtime.bench import memory
from runtime.bench.__main__ import main
from runtime.bench.accuracy import relative, truth
from runtime.bench.case import Case, case
from runtime.bench.contestants import NETWORK, WAYS, Field, gather
from runtime.bench.floor import floor, operations
from runtime.bench.forms import FORMS, official
from runtime.bench.race import race
from runtime.bench.spread import Spread, ratios
from runtime.bench.table import verdict
from runtime.bench.workload import workload
from runtime.errors import UserError
from runtime.network import parameter_count
from runtime.products import ProductShape, products
from tests.parity.perturb import perturb
from tests.runtime.conftest import SPECS

CPU = torch.device("cpu")
CRATE = str(SPECS / "crate.crate")
OFFICIAL = {"crate": "digits", "crate_mae": "digits", "crate_gpt": "text"}  # specs of official architectures
SHORT = ["--preset", "digits", "--batch", "2", "--rounds", "2"]
OTHER_WAYS = [way.label for way in WAYS if not way.optional and way.label != NETWORK]


def small(spec: str, preset: str, **sizes: float) -> Case:
    return case(SPECS / f"{spec}.crate", preset, {"L": 2} | sizes, CPU)


def against(given: Case, *baselines: str) -> Field:
    """A network and its baselines, compared on two inputs."""
    return gather(given, baselines, frozenset(), workload(given.network, given.compiled.shape, 2, "float32"))


# ---- baselines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", OFFICIAL)
def test_the_official_form_is_the_compiled_network(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs and every gradient, with weights moved off their starts."""
    given = small(spec, OFFICIAL[spec])
    form = official(given)
    perturb(form, 0)
    monkeypatch.setitem(FORMS, "official", lambda case: form)
    work = workload(given.network, given.compiled.shape, 3, "float32")
    field = gather(given, ["official"], frozenset(), work)
    assert field.difference < 1e-10
    assert field.contestants[0].weights_of == "official"
    ours, theirs = truth(given.network, work), truth(form, work).named_as(given.network)
    assert relative({"": ours.output}, {"": theirs.output}) < 1e-10
    for name, gradient in ours.gradients.items():
        assert relative({name: gradient}, {name: theirs.gradients[name]}) < 1e-10


def test_official_sizes_follow_the_spec() -> None:
    assert against(small("crate", "digits", d=20, K=2, p=7, channels=3, classes=4), "official").difference < 1e-10
    assert against(small("crate_mae", "digits", eta=0.3, **{"lambda": 0.7}), "official").difference < 1e-10


@pytest.mark.parametrize("spec", ["crate_exact", "crate_paper", "tost"])
def test_another_function_is_told_apart(spec: str) -> None:
    field = against(small(spec, "digits"), "official")
    assert field.difference is None
    found = {row.label: row for row in field.contestants}
    assert found[NETWORK].weights_of is found["official"].weights_of is None
    assert found["checkpointed"].weights_of == NETWORK
    assert "another function" in found["official"].note


def test_same_parameters_are_not_yet_the_same_function(tmp_path: Path) -> None:
    text = (SPECS / "crate.crate").read_text().replace("softmax(1/sqrt(p))", "softmax(2/sqrt(p))")
    (tmp_path / "sharper.crate").write_text(text)
    field = against(case(tmp_path / "sharper.crate", "digits", {"L": 2}, CPU), "official")
    assert field.difference > 1e-4
    assert field.contestants[0].weights_of is None
    assert "two different functions" in verdict(field.difference, same=False)


@pytest.mark.parametrize("spec", OFFICIAL)
def test_all_baselines_of_all_kinds(spec: str) -> None:
    given = small(spec, OFFICIAL[spec])
    work = workload(given.network, given.compiled.shape, 2, "float32")
    field = gather(given, list(FORMS), frozenset(), work)
    shapes = set()
    for row in field.contestants:
        shapes.add(tuple(work.output(row.call).shape))
        if not row.trains:
            continue
        work.training_step(row.module, row.call)
        unused = {name for name, p in row.module.named_parameters() if p.requires_grad and p.grad is None}
        assert unused <= {"decoder_embed.weight", "decoder_embed.bias"}  # dead officially
    assert len(shapes) == 1
    assert [row.label for row in field.contestants] == [*(way.label for way in WAYS if not way.optional), *FORMS]


@pytest.mark.parametrize(
    ("spec", "preset"), [("crate_bert", "text"), ("crate_decoder", "digits"), ("aot", None), ("crate_dino", "digits")]
)
def test_networks_without_baselines_have_a_loss(spec: str, preset: str | None) -> None:
    given = case(SPECS / f"{spec}.crate", preset, {}, CPU)
    work = workload(given.network, given.compiled.shape, 2, "float32")
    work.training_step(given.network, given.network)
    assert any(p.grad is not None for p in given.network.parameters())
    with pytest.raises(UserError, match="there is no baseline|this spec has no"):
        gather(given, ["official"], frozenset(), work)


# ---- arithmetic ------------------------------------------------------------------------------------------------


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([1.0, 20.0, 3.0], [2.0, 40.0, 3.0]) == Spread(0.5, 0.5, 1.0)
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_a_race_takes_turns() -> None:
    order: list[str] = []
    found = race({name: lambda name=name: order.append(name) for name in "abc"}, 3, CPU)
    assert {name: len(values) for name, values in found.items()} == {"a": 3, "b": 3, "c": 3}
    turns = [name for place, name in enumerate(order) if place == 0 or name != order[place - 1]]
    assert turns == list("abc") * (len(turns) // 3)
    assert gc.isenabled()


def test_the_meter_finds_a_known_allocation(capfd: pytest.CaptureFixture[str]) -> None:
    def action() -> None:
        first = torch.zeros(1000, 250)  # 1 MB
        second = torch.cat((first, first))  # 2 MB
        del first
        torch.zeros(100)
        del second

    found = memory.peak(action, CPU)
    assert 3_000_000 <= found <= 3_001_000
    assert capfd.readouterr().err == ""


def test_gradients_are_dropped_before_the_meter_runs() -> None:
    layer = nn.Linear(500, 500, bias=False)  # 1 MB of weights

    def step() -> None:
        layer.zero_grad(set_to_none=True)
        layer(torch.ones(1, 500)).sum().backward()

    assert memory.peak(step, CPU, layer.zero_grad) >= 1_000_000
    assert layer.weight.grad is None


def test_the_floor_counts_the_products_of_the_network() -> None:
    given = small("crate", "digits")
    d, heads, p, count, batch, layers = 96, 6, 16, 17, 4, 2
    found = products(given.compilation, given.network, batch)
    linear, scores = 2 * batch * count * d * d, 2 * 2 * batch * heads * count * count * p
    ends = 2 * batch * 16 * 4 * d + 2 * batch * d * 10
    whole = 3 * linear + 2 * d**3 + scores
    one = 2 * batch * d * d  # a d x d map of the class token: U for w, U' w, U answer and U_out, then D' and D
    last = 6 * one + 2 * 2 * batch * heads * count * d
    total = sum(product.flops for product in found)
    assert abs(total - (layers - 1) * whole - last - ends) < 0.01 * total  # biases are counted with the products
    scores = ProductShape(batch * heads, count, p, count)
    assert scores in {product.shape for product in found}
    seconds = {product.shape: [2e-3, 1e-3, 3e-3] for product in found}
    bound = floor(found, seconds)
    assert bound.rates[scores] == operations(scores) / 2e-3
    assert bound.forward == pytest.approx(sum(p.flops * 2e-3 / operations(p.shape) for p in found))
    stem = found[0]
    assert bound.training_flops == 3 * total - stem.flops  # images have no gradient


@pytest.mark.parametrize(
    ("spec", "preset"), [("crate_gpt_exact", "text"), ("tost", "digits"), ("crate_alpha", "digits")]
)
def test_the_floor_of_other_networks(spec: str, preset: str) -> None:
    given = small(spec, preset)
    total = sum(product.flops for product in products(given.compilation, given.network, 8))
    assert 0.9 < total / 8 / given.compilation.costs.flops < 1.02


# ---- the command -----------------------------------------------------------------------------------------------


def test_what_a_bench_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([CRATE, *SHORT, "--baseline", "official", "vit", "--set", "L=1", "--out", str(tmp_path / "out")])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bench.json", "bench.svg", "bench.png"}
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert found["sizes"]["L"] == 1 and found["batch"] == 2 and found["machine"]["threads"] >= 1
    race = found["race"]
    assert race["references"] == ["official"] and race["difference_to_official"] < 1e-10
    assert list(race["contestants"]) == [NETWORK, *OTHER_WAYS, "official", "vit"]
    for row in (race["contestants"][label] for label in (NETWORK, "checkpointed", "official", "vit")):
        assert len(row["forward_seconds"]) == len(row["training_step_seconds"]) == 2
        assert row["training_step_peak_bytes"] > 0
        assert 0 < row["output_error"] < 1e-4 and 0 < row["gradient_error"] < 1e-2
    assert race["contestants"][NETWORK]["parameters"] == race["contestants"]["official"]["parameters"]
    assert race["floor"]["forward_seconds"] > 0
    printed = capsys.readouterr()
    assert all(
        word in printed.out
        for word in ("times faster than official", "floor", "peak MB", "official and compiled agree")
    )
    assert printed.err == ""


def test_narrow_numbers_and_torch_compile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, dynamic: nn.Sequential(module))  # the real one takes a minute
    words = ["--dtype", "bfloat16", "--compile", "--set", "L=1", "--out", str(tmp_path / "out")]
    main([CRATE, *SHORT, "--baseline", "official", "exact", *words])
    race = json.loads((tmp_path / "out" / "bench.json").read_text())["race"]
    assert race["references"] == ["official", "official, torch.compile"]
    twice = {f"{label}, torch.compile" for label in ("compiled", "frozen", "official")}
    assert set(race["contestants"]) == {NETWORK, *OTHER_WAYS, "official", "exact"} | twice
    assert all(1e-4 < row["output_error"] < 0.1 for row in race["contestants"].values())


def test_lost_gradients_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Lost(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            output = super().forward(images)
            return output.detach() + 0 * output

    monkeypatch.setattr(torch, "compile", lambda module, dynamic: Lost(module))
    main([CRATE, *SHORT, "--compile", "--set", "L=1", "--out", str(tmp_path / "out")])
    told = [line for line in capsys.readouterr().out.splitlines() if "do not compare its times" in line]
    assert [line.split(":")[0] for line in told] == ["compiled, torch.compile", "official, torch.compile"]
    assert all("the gradient is off by 1.0e+00" in line for line in told)


def test_a_way_that_does_not_train(tmp_path: Path) -> None:
    """It is timed forward alone, and judged by the network as written where there is no official form of it."""
    for spec in ("crate", "crate_exact"):
        main([str(SPECS / f"{spec}.crate"), *SHORT, "--set", "L=1", "--out", str(tmp_path / spec)])
        row = json.loads((tmp_path / spec / "bench.json").read_text())["race"]["contestants"]["frozen"]
        assert row["training_step_seconds"] is row["training_step_peak_bytes"] is row["gradient_error"] is None
        assert len(row["forward_seconds"]) == 2 and row["output_error"] < 1e-5


def test_a_network_alone(tmp_path: Path) -> None:
    main([CRATE, *SHORT, "--baseline", "none", "--set", "L=1", "--out", str(tmp_path / "out")])
    race = json.loads((tmp_path / "out" / "bench.json").read_text())["race"]
    assert list(race["contestants"]) == [NETWORK, *OTHER_WAYS] and race["references"] == [NETWORK]


MISTAKES = {
    "no spec": ([], UserError, "required: SPEC"),
    "absent spec": (["specs/nowhere.crate"], CrateError, "nowhere.crate"),
    "unknown preset": ([CRATE, "--preset", "digit"], CrateError, "digit"),
    "unknown size": ([CRATE, "--set", "width=3"], CrateError, "width"),
    "no number": ([CRATE, "--set", "d"], UserError, "name=number"),
    "unknown baseline": ([CRATE, "--baseline", "vti"], UserError, "invalid choice: 'vti'"),
    "no batch": ([CRATE, "--batch", "0"], UserError, "--batch 0: give a number from 1 on"),
    "unknown dtype": ([CRATE, "--dtype", "float16"], UserError, "float32"),
    "absent device": ([CRATE, "--device", "cuda:17"], UserError, 'device "cuda:17" cannot be used'),
    "list without sweep": ([CRATE, "--tokens", "64,128"], UserError, "--tokens belongs to --sweep"),
    "nothing to train": ([str(SPECS / "redunet.crate")], UserError, "nothing in this network is trained"),
    "no list": ([CRATE, "--sweep", "--tokens", "64;128"], UserError, "--tokens 64;128: give numbers"),
    "no official form": (
        [str(SPECS / "crate_bert.crate"), "--preset", "text"], UserError, '"official" for a network of the kind "mask',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path) -> None:
    words, kind, message = MISTAKES[name]
    with pytest.raises(kind, match=message):
        main([*words, "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_sizes_of_other_names(tmp_path: Path) -> None:
    text = (SPECS / "crate.crate").read_text().replace("L = 12", "layers = 12").replace("repeat L", "repeat layers")
    text = text.replace("L = 24", "layers = 24").replace("L = 4", "layers = 4")
    (tmp_path / "other.crate").write_text(text)
    with pytest.raises(UserError, match="this spec has no L: name them so, or measure the network alone"):
        main([str(tmp_path / "other.crate"), *SHORT, "--out", str(tmp_path / "out")])


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "bench.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a bench: choose another --out"):
        main([CRATE, *SHORT, "--set", "L=1", "--out", str(tmp_path)])


def test_a_mistake_from_outside_is_one_message() -> None:
    command = [sys.executable, "-m", "runtime.bench", CRATE, "--baselines", "vit"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SPECS.parent)
    assert result.returncode == 1 and result.stdout == ""
    assert "Traceback" not in result.stderr and "usage" in result.stderr


def test_parameters_of_the_forms() -> None:
    given = small("crate", "digits")
    counts = {label: parameter_count(form(given)) for label, form in FORMS.items()}
    assert counts["official"] == parameter_count(given.network)
    assert counts["vit"] > counts["official"] > counts["exact"]
