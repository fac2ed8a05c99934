"""Several processes (gloo, started by torchrun) do what one does: the same batches, losses, figures and states."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runtime import train
from runtime.parallel import World
from runtime.storage import checkpoint
from runtime.storage.log import read_metrics
from tests.runtime.conftest import RECIPES, SPECS
from tests.runtime.several import SIGNAL, torchrun

SIZES = ["sizes.d=8", "sizes.K=2", "sizes.L=2", "batch=60", "log_every=1", "evaluate_every=4", "checkpoint_every=4"]
CASES = {  # spec and overrides
    "classify": ("crate", ["ema=0.9", "clip=1"]),
    "accumulated": ("crate", ["ema=0.9", "clip=1", "accumulate=6"]),
    "batch norm": ("tost_vision", ["ema=0.9", "accumulate=6"]),  # of shares, so of equal ones
    "mae": ("crate_mae", []),
    "tied": ("crate_autoencoder", ["task=reconstruct"]),
    "penalised": ("crate_srr", []),
    "exact": ("crate_exact", []),
    "simdino": ("crate_dino", ["task.head.hidden=16", "task.views.local=1"]),
    "dino": ("crate_dino", ["task=dino", "task.head.hidden=16", "task.head.prototypes=9"]),
    "augmented": (
        "crate",
        ["augmentation={randaugment: [1, 9], erasing: 0.3, mixup: 0.8, cutmix: 1, hue: 0.1}"],
    ),
    "text": ("crate_gpt", ["sizes.length=16"]),
}
WAYS = {"ddp2": (2, "ddp"), "fsdp3": (3, "fsdp"), "ddp3": (3, "ddp"), "fsdp2": (2, "fsdp")}
BY_DDP = ("accumulated", "batch norm", "mae", "tied", "simdino", "dino", "augmented", "text")
BY_FSDP = ("batch norm", "penalised", "exact", "dino", "augmented")
PAIRS = [("classify", way) for way in WAYS] + [(c, "ddp2") for c in BY_DDP] + [(c, "fsdp3") for c in BY_FSDP]
SHARED = {"crate_srr": "crate", "crate_exact": "crate", "crate_autoencoder": "crate_mae"}  # whose recipe serves


def command(case: str, out: Path, steps: int, *more: str) -> list[str]:
    spec, overrides = CASES[case]
    recipe = RECIPES[SHARED.get(spec, spec)]
    words = [str(SPECS / f"{spec}.crate"), "--recipe", recipe, "--out", str(out)]
    return [*words, *SIZES, *overrides, "epochs=null", f"steps={steps}", *more]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder with all runs, `case/way`, and what the two processes said. Starting processes is what takes long."""
    place = tmp_path_factory.mktemp("runs")
    for case in CASES:
        train.main(command(case, place / case / "one", 6))
    trained = {
        count: [command(c, place / c / way, 6, f"parallel={WAYS[way][1]}") for c, way in PAIRS if WAYS[way][0] == count]
        for count in (2, 3)
    }
    changing = place / "changing"
    torchrun(3, [*trained[3], command("classify", changing, 2)], place)
    lengthen(changing, 4, "fsdp")
    refused = [
        command("classify", place / "uneven", 2, "batch=61"),
        command("classify", place / "a", 2, "sizes.classes=3"),
    ]
    stopped = [SIGNAL, *command("classify", place / "stopped", 6)]
    return place, torchrun(2, [*trained[2], ["--resume", str(changing)], *refused, stopped], place)


@pytest.fixture(scope="module")
def runs(printed: tuple[Path, str]) -> Path:
    return printed[0]


def figures(run: Path) -> list[dict[str, float]]:
    left_out = (
        "images_per_second",
        "windows_per_second",
        "data_wait",
        "memory_gb",
        "mfu",
        "mean_output_entropy",
    )  # the last is of a share
    return [{k: v for k, v in entry.items() if k not in left_out} for entry in read_metrics(run / "metrics.jsonl")]


@pytest.mark.parametrize(("case", "way"), PAIRS)
def test_losses_and_figures_are_those_of_one_process(case: str, way: str, runs: Path) -> None:
    alone, together = figures(runs / case / "one"), figures(runs / case / way)
    assert len(alone) == len(together) == 8
    for mine, theirs in zip(alone, together, strict=True):
        assert mine.keys() == theirs.keys()
        assert mine.pop("split") == theirs.pop("split")
        assert theirs == pytest.approx(mine, rel=1e-5, abs=2e-6)


@pytest.mark.parametrize("way", ["ddp2", "fsdp3"])
def test_batch_norms_gather_what_they_gather_in_one_process(way: str, runs: Path) -> None:
    one, several = (checkpoint.read_state(runs / "batch norm" / x / "checkpoint.pt")["network"] for x in ("one", way))
    names = [name for name in one if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert len(names) == 2 * 3 and {int(state[name]) for state in (one, several) for name in names[2::3]} == {6}
    for name in names:
        assert torch.allclose(one[name], several[name], rtol=1e-5, atol=1e-6), name
    assert not torch.allclose(one[names[0]], torch.zeros(()), atol=1e-3)


@pytest.mark.parametrize("processes", [2, 3])
def test_fsdp_equals_ddp(processes: int, runs: Path) -> None:
    copies, slices = (
        checkpoint.read_state(runs / "classify" / f"{way}{processes}" / "checkpoint.pt") for way in ("ddp", "fsdp")
    )
    assert copies["network"].keys() == slices["network"].keys()
    assert copies["optimizer"]["state"].keys() == slices["optimizer"]["state"].keys()
    for name, value in copies["network"].items():
        assert torch.allclose(value, slices["network"][name], rtol=0, atol=1e-5), name


def test_a_run_goes_on_with_any_number_of_processes(runs: Path) -> None:
    """Three processes by DDP, then two by FSDP2, then one: as one process all the way."""
    lengthen(runs / "changing", 6, "ddp")
    train.main(["--resume", str(runs / "changing")])
    assert losses(runs / "changing") == pytest.approx(losses(runs / "classify" / "one"), rel=1e-4)


def losses(run: Path) -> list[float]:
    return [entry["loss"] for entry in figures(run) if entry["split"] == "train"]


def lengthen(run: Path, steps: int, way: str) -> None:
    """Another length of the run, and another way to be parallel; learning rates are those of a warm-up, so the same."""
    recipe = (run / "recipe.yaml").read_text()
    for old in ("ddp", "fsdp"):
        recipe = recipe.replace(f"parallel: {old}", f"parallel: {way}")
    (run / "recipe.yaml").write_text(recipe.replace(f"steps: {steps - 2}\n", f"steps: {steps}\n"))


def test_a_signal_to_one_process_stops_all_after_the_same_step(printed: tuple[Path, str]) -> None:
    place, said = printed
    run = place / "stopped"
    for process in (0, 1):
        assert f"process {process} said: SIGTERM: stopped after step 4 of 6; continue with --resume {run}" in said
    assert checkpoint.read_state(run / "checkpoint.pt")["step"] == 4
    train.main(["--resume", str(run)])
    assert losses(run) == pytest.approx(losses(place / "classify" / "one"), rel=1e-4)


def test_what_all_refuse_is_said_once(printed: tuple[Path, str]) -> None:
    place, said = printed
    assert said.count("batch 61 cannot be split into 2 equal shares in 2 processes") == 1
    assert said.count("sizes.classes=10") == 1
    assert not (place / "uneven").exists()


@pytest.mark.parametrize(("size", "accumulate", "parts"), [(1, 1, 1), (1, 4, 4), (2, 1, 2), (2, 4, 4), (3, 4, 6)])
def test_a_share_is_never_larger_than_the_recipe_says(size: int, accumulate: int, parts: int) -> None:
    assert World(size=size).parts(accumulate) == parts
