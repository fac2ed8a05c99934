"""Grids of variants: compiled first, trained side by side, kept when interrupted, and shown in one table and plot."""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import re
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

import crate_dsl
from crate_dsl import CrateError
from runtime import explore
from runtime.errors import Stopped, UserError
from runtime.network import Shape
from runtime.recipe import recipes
from runtime.storage import checkpoint
from runtime.storage.log import read_metrics
from runtime.training.trainer import Trainer
from runtime.variants import grid, plots, results
from tests.runtime.conftest import SPECS, TINY

CRATE = str(SPECS / "crate.crate")
SHORT = [*TINY, "epochs=null", "steps=4"]
GRID = ["--vary", "gram=softmax,none", "--vary", "adjoint=free,dropped"]
LABELS = [f"gram={gram} adjoint={adjoint}" for gram in ("softmax", "none") for adjoint in ("free", "dropped")]


def table(folder: Path) -> dict:
    return json.loads((folder / "table.json").read_text(encoding="utf-8"))


def test_a_grid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two of four variants can be trained; the others are said, listed and skipped."""
    explore.main([CRATE, *GRID, "--seeds", "0,3", "--out", str(tmp_path), *SHORT])
    printed = capsys.readouterr().out
    assert printed.count("not trained: ") == 4 and 'adjoint ~ dropped" does not apply' in printed
    assert printed.index("4 runs, in") < printed.index("-- 1/4") < printed.index("-- 4/4")
    content = table(tmp_path)
    assert [variant["variant"] for variant in content["variants"]] == LABELS
    assert [len(variant["runs"]) for variant in content["variants"]] == [2, 0, 2, 0]
    for variant in content["variants"]:
        text = (tmp_path / variant["spec"]).read_text(encoding="utf-8") if variant["runs"] else ""
        for seed, run in variant["runs"].items():
            folder = tmp_path / "runs" / Path(variant["spec"]).stem / f"seed-{seed}"
            assert (folder / "spec.crate").read_text(encoding="utf-8") == text
            weights, _ = checkpoint.load_weights(folder / "weights.safetensors")
            assert run["parameters"] == variant["parameters"] == sum(value.numel() for value in weights.values())
            assert set(run["figures"]) == {"accuracy", "cross_entropy"} and run["seconds"] > 0
            assert {name: layers for name, (_, layers) in run["falls"].items()} == {
                "encoder.compress": 1,
                "encoder.sparsify": 1,
            }
    assert {path.suffix for path in tmp_path.glob("plot.*")} == {".svg", ".png"}


def test_the_three_tables_say_the_same(tmp_path: Path) -> None:
    explore.main([CRATE, *GRID, "--seeds", "0,3", "--out", str(tmp_path), *SHORT])
    rows = list(csv.DictReader((tmp_path / "table.csv").open(encoding="utf-8")))
    markdown = (tmp_path / "table.md").read_text(encoding="utf-8")
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if line.startswith("| gr")
    ]
    for row, line, variant in zip(rows, cells, table(tmp_path)["variants"], strict=True):
        assert row["variant"] == line[0] == variant["variant"]
        assert {"gram": row["gram"], "adjoint": row["adjoint"]} == variant["changes"]
        values = [run["figures"]["accuracy"] for run in variant["runs"].values()]
        if values:
            assert (
                float(row["accuracy_mean"]) == pytest.approx(sum(values) / 2) == pytest.approx(float(line[3]), rel=1e-3)
            )
            assert [float(row["accuracy_least"]), float(row["accuracy_greatest"])] == sorted(values)
            assert line[4] == " to ".join(f"{value:.4g}" for value in sorted(values))
        else:
            assert row["accuracy_mean"] == line[3] == "" and line[-1] == "not trained"
    assert sum("best" in line[-1] for line in cells) == 1 and "as written" in cells[0][-1]


def test_the_falls_of_energies_are_those_of_the_network(tmp_path: Path) -> None:
    """Counted here by hand, from the weights that a run has left."""
    explore.main([CRATE, "--vary", "sites=none", "--out", str(tmp_path), *SHORT, "sizes.L=3"])
    folder = tmp_path / "runs" / "sites-none" / "seed-0"
    sizes = {"d": 8, "K": 2, "L": 3, "image": 16, "patch": 4}
    network = crate_dsl.load(folder / "spec.crate", "digits", **sizes)
    network.load_state_dict(checkpoint.load_weights(folder / "weights.safetensors")[0])
    source = recipes.load(recipes.find("classify_digits")).data
    images = source.open(Shape(1, 16, 16)).held_out.take(range(64), None).images
    with torch.no_grad():
        energies = network.eval().energies(images)
    falls = [bool(after.mean() < before.mean()) for name, (before, after) in energies.items() if "compress" in name]
    assert table(tmp_path)["variants"][0]["runs"]["0"]["falls"]["encoder.compress"] == [sum(falls), 3]


def test_a_kept_spec_needs_no_other_file(tmp_path: Path) -> None:
    """Energies that are included stand in the variant's own text, and it states the same network."""
    words = [str(SPECS / "crate_srr.crate"), "--vary", "compress.norm=none", "--vary", "loss=cross_entropy"]
    explore.main([*words, "--out", str(tmp_path), *SHORT])
    kept = next((tmp_path / "specs").iterdir())
    text = kept.read_text(encoding="utf-8")
    assert "energy rate(" in text and not re.search("^include", text, re.MULTILINE)
    assert (next(tmp_path.glob("runs/*/*")) / "spec.crate").read_text(encoding="utf-8") == text
    summary = crate_dsl.summary(crate_dsl.compile_spec(kept, "digits").optimised)
    whole = crate_dsl.summary(crate_dsl.compile_spec(SPECS / "crate_srr.crate", "digits").optimised)
    assert whole.parameters - summary.parameters == 4 * 2 * 96  # the norm of four layers


KINDS = {
    "crate_mae": (["adjoint=tied"], []),
    "crate_decoder": (["gram=none"], []),
    "crate_gpt": (["causal=yes"], ["sizes.length=16", "batch=8", "evaluate_batch=64"]),
    "crate_bert": (["sites=none"], ["sizes.length=16", "batch=8", "evaluate_batch=64"]),
    "crate_dino": (["compress.residual=normed"], []),
    "tost": (["compress_variational_rate.coefficients=none"], []),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_network_is_explored(name: str, tmp_path: Path) -> None:
    """Images, text, views: the metric and the curve are those of the task, and energies are counted."""
    varied, sizes = KINDS[name]
    explore.main([str(SPECS / f"{name}.crate"), "--vary", *varied, "--out", str(tmp_path), *SHORT, "steps=2", *sizes])
    content = table(tmp_path)
    (run,) = content["variants"][0]["runs"].values()
    assert math.isfinite(run["figures"][content["metric"]])
    assert all(layers == 1 for _, layers in run["falls"].values()) and run["falls"]
    assert (tmp_path / "plot.svg").exists()


# ---- interrupted, continued, failing ---------------------------------------------------------------------------------


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("runs/*/*/weights.safetensors"))
    return {f"{f.parent.parent.name}: {n}": v for f in files for n, v in checkpoint.load_weights(f)[0].items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def test_an_interrupted_grid_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in its second run: what is finished is kept, what was begun is continued, and nothing differs."""
    words = [CRATE, "--vary", "gram=softmax,none", *SHORT, "--out"]
    explore.main([*words, str(tmp_path / "straight")])
    update, steps = Trainer.update, []

    def counted(self: Trainer, *arguments: object) -> dict[str, float]:
        steps.append(self.folder.path.parent.name)
        if len(steps) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(self, *arguments)

    monkeypatch.setattr(Trainer, "update", counted)
    with pytest.raises(Stopped, match="the same command with --out .* goes on from here") as stopped:
        explore.main([*words, str(tmp_path / "stopped")])
    assert stopped.value.signal == signal.SIGTERM
    assert [len(variant["runs"]) for variant in table(tmp_path / "stopped")["variants"]] == [1, 0]
    explore.main([*words, str(tmp_path / "stopped")])
    assert steps == ["gram-softmax"] * 4 + ["gram-none"] * 4
    assert same(weights_of(tmp_path / "straight"), weights_of(tmp_path / "stopped"))
    explore.main([CRATE, "--vary", "gram=none,softmax,scaled", *SHORT, "--out", str(tmp_path / "stopped")])
    assert steps[8:] == ["gram-scaled"] * 4


def test_a_folder_of_something_else_is_not_taken(tmp_path: Path) -> None:
    words = [CRATE, "--vary", "gram=softmax", "--out", str(tmp_path), *SHORT]
    explore.main(words)
    before = table(tmp_path)
    with pytest.raises(UserError, match="holds a run with another recipe: choose another --out"):
        explore.main([*words, "optimizer.lr=1e-4"])
    assert table(tmp_path) == before


def test_a_grid_of_another_spec_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine.crate", tmp_path / "grid"
    text = Path(CRATE).read_text(encoding="utf-8")
    mine.write_text(text)
    words = [str(mine), "--vary", "gram=softmax", "--out", str(out), *SHORT]
    explore.main(words)
    kept = (out / "specs" / "gram-softmax.crate").read_text()
    mine.write_text(text.replace("absorbed", "skip"))
    with pytest.raises(UserError, match="another spec: choose another --out; .*spec.crate is what it was trained"):
        explore.main(words)
    with pytest.raises(UserError, match=r"grid holds a grid of mine\.crate, not of crate\.crate: choose another --out"):
        explore.main([CRATE, "--vary", "d=8,16", "--out", str(out), *SHORT])
    assert (out / "specs" / "gram-softmax.crate").read_text() == kept and not (out / "specs" / "d-8.crate").exists()


def test_a_variant_that_fails_stops_no_other(tmp_path: Path) -> None:
    explore.main([CRATE, "--vary", "image=32,16", "--out", str(tmp_path), *SHORT])
    first, second = table(tmp_path)["variants"]
    assert "the network reads 1 x 32 x 32" in first["failures"]["0"] and not first["runs"]
    assert second["runs"] and not second["failures"]
    assert "* not trained: image=32: seed 0: data digits" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_several_at_once_give_the_same(tmp_path: Path) -> None:
    """Two processes as one, and both are stopped with their parent."""
    words = [CRATE, "--vary", "gram=softmax,none", *SHORT, "--out"]
    explore.main([*words, str(tmp_path / "one")])
    explore.main([*words, str(tmp_path / "two"), "--jobs", "2"])
    first, second = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    assert first.keys() == second.keys()
    assert all(torch.allclose(value, second[name], atol=1e-5) for name, value in first.items())  # threads differ
    assert "held out: accuracy" in next((tmp_path / "two").glob("runs/*/*/log.txt")).read_text(encoding="utf-8")


def test_processes_stop_with_their_parent(tmp_path: Path) -> None:
    def stop() -> None:
        until = time.monotonic() + 300
        while len(list(tmp_path.glob("runs/*/*/checkpoint.pt"))) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    length = ["epochs=null", "steps=100000", "log_every=1"]
    with pytest.raises(Stopped, match="SIGTERM: stopped; the same command with --out"):
        explore.main([CRATE, "--vary", "gram=softmax,none", "--jobs", "2", "--out", str(tmp_path), *TINY, *length])
    assert multiprocessing.active_children() == []
    states = [checkpoint.read_state(file) for file in tmp_path.glob("runs/*/*/checkpoint.pt")]
    steps = [
        read_metrics(file.parent / "metrics.jsonl")[-1]["step"] for file in tmp_path.glob("runs/*/*/checkpoint.pt")
    ]
    assert [state["step"] for state in states] == steps and len(steps) == 2, "each has saved its last step"


# ---- before training -------------------------------------------------------------------------------------------------


def test_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    explore.main([CRATE, *GRID, "--vary", "sites=kept,none", "--dry-run"])
    printed = capsys.readouterr().out
    sizes = {"image": 16, "patch": 4}
    compilation = crate_dsl.compile_spec(CRATE, "digits", sizes)
    assert f"{crate_dsl.summary(compilation.optimised).parameters:,}" in printed
    findings = crate_dsl.certify(compilation.derivation)
    errors = [f.error for f in findings if f.claim == "gram ~ softmax"]
    assert re.sub(r"[^\w.+]", "", f"gram {errors[0]:.2g}") in re.sub(r"[^\w.+]", "", printed)
    assert "exact" in printed and "not trained" in printed and list(tmp_path.iterdir()) == []


def test_a_narrow_terminal_breaks_labels_between_their_words(capsys: pytest.CaptureFixture[str]) -> None:
    variant = SimpleNamespace(label="compress.by=cohesion adjoint=tied")
    candidate = SimpleNamespace(variant=variant, parameters=42_380, flops=1_870_000, note="as written")
    outcome = SimpleNamespace(figures={"accuracy": 0.98}, seconds=40, falls={"encoder.compress": (4, 4)})
    rows = [results.Row(candidate, {0: outcome, 1: outcome}, {})]
    table = results.printed(results.Results("cohesion.crate", "classify_digits", "accuracy", True, (0, 1), rows))
    Console(width=100).print(table)
    assert "│ compress.by=cohesion │" in capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    explore.main([CRATE, "--list"])
    printed = capsys.readouterr().out
    for choice in crate_dsl.choices(Path(CRATE).read_text(encoding="utf-8"), "digits"):
        assert choice.name in printed
    assert re.search(r"image\s*│\s*│ 16 \(recipe\)", printed)


def test_commas_inside_parentheses_belong_to_a_value() -> None:
    words = ["gram=threshold(0.1, 1/sqrt(p)), softmax(1/(2*sqrt(p))),none", "loss=cross_entropy + 2 * rate(Z, U)"]
    assert grid.parse_axes(words) == {
        "gram": ("threshold(0.1, 1/sqrt(p))", "softmax(1/(2*sqrt(p)))", "none"),
        "loss": ("cross_entropy + 2 * rate(Z, U)",),
    }


def test_twins_are_trained_once() -> None:
    base = crate_dsl.Variations(crate_dsl.compile_spec(CRATE).source, "digits")
    recipe = recipes.load(recipes.find("classify_digits"))
    found = grid.candidates(base, {"gram": ("softmax(1)", "none"), "sites": ("kept", "none")}, recipe)
    assert [bool(candidate.problem) for candidate in found] == [False, True, False, False]
    assert 'has no site "gram"' in found[1].problem
    twins = grid.candidates(base, {"gram": ("softmax", "softmax(1/sqrt(p))")}, recipe)
    assert twins[1].problem == "the same as gram=softmax" and twins[0].note == "as written"


def test_a_number_wins_over_the_recipe() -> None:
    base = crate_dsl.Variations(crate_dsl.compile_spec(CRATE).source, "digits")
    recipe = recipes.load(recipes.find("classify_digits"))
    (found,) = grid.candidates(base, {"image": ("32",)}, recipe)
    assert found.sizes == {"patch": 4}
    assert found.compilation("digits").model.sizes["image"] == 32


MISTAKES = {
    "no spec": (["--vary", "gram=none"], "one spec is needed, 0 were given"),
    "nothing varied": ([CRATE], "nothing is varied: .*--list"),
    "list and vary": ([CRATE, "--list", "--vary", "gram=none"], "--list .* takes no --vary; --dry-run"),
    "no values": ([CRATE, "--vary", "gram"], "not of the form WHAT=VALUE"),
    "empty value": ([CRATE, "--vary", "gram=softmax,"], "not of the form WHAT=VALUE"),
    "twice": ([CRATE, "--vary", "gram=none", "--vary", "gram=scaled"], "varied twice.*--vary gram=none,scaled$"),
    "value twice": ([CRATE, "--vary", "gram=none,none"], '"none" stands there twice'),
    "unknown thing": ([CRATE, "--vary", "grams=none"], 'no "grams" to be varied.*Did you mean "gram"'),
    "unknown rule": ([CRATE, "--vary", "gram=sofmax"], 'Did you mean "softmax"'),
    "too many": ([CRATE, *(w for n in "dKLp" for w in ("--vary", f"{n}=1,2,3"))], r"81 variants \(3 x 3 x 3 x 3\).*64"),
    "seeds": ([CRATE, "--vary", "gram=none", "--seeds", "0,zero"], "--seeds 0,zero: different whole numbers"),
    "seeds twice": ([CRATE, "--vary", "gram=none", "--seeds", "1,1"], "--seeds 1,1"),
    "jobs": ([CRATE, "--vary", "gram=none", "--jobs", "0"], "--jobs 0: at least one"),
    "nothing compiles, dry": ([CRATE, "--vary", "adjoint=dropped", "--dry-run"], "^no variant can be trained"),
    "nothing compiles": ([CRATE, "--vary", "adjoint=dropped"], "no variant could be trained"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, message = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UserError, CrateError), match=f"(?s){message}"):
        explore.main([*words, *SHORT])


# ---- the plot --------------------------------------------------------------------------------------------------------


def lines(count: int, seeds: int = 2) -> list[plots.Line]:
    return [
        plots.Line(
            f"variant {n}", {seed: [(step, n + seed / 10 + step / 100) for step in (1, 5, 9)] for seed in range(seeds)}
        )
        for n in range(count)
    ]


def test_twelve_variants_are_told_apart(tmp_path: Path) -> None:
    looks = {(plots.COLOURS[n % len(plots.COLOURS)], plots.MARKERS[n]) for n in range(plots.SHOWN)}
    assert len(looks) == len(set(plots.MARKERS)) == plots.SHOWN
    files = plots.plot(lines(13), "accuracy", True, "a title", tmp_path)
    picture = files[0].read_text(encoding="utf-8")
    assert [f"<!-- variant {n} -->" in picture for n in range(13)] == [False] + [True] * 12
    assert "the best 12 of 13 variants" in picture


def test_the_line_shown_is_the_mean_over_seeds() -> None:
    assert dict(lines(1)[0].averaged()) == pytest.approx({1: 0.06, 5: 0.1, 9: 0.14})
    assert plots.scale([(1, 100.0), (5, 1.0), (9, 2.0)]) == pytest.approx((0.94, 2.06))
