"""The ablation of operators: overlaps by brute force, and the whole command at tiny sizes."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime import ablation
from runtime.ablating.overlap import bounds, ceiling, overlaps, shuffled
from runtime.baselines.hybrid import COMBINATIONS
from runtime.data.composites import Composites
from runtime.errors import UserError
from runtime.inspection.attention import attention_maps
from runtime.network import Shape, compile_network
from runtime.recipe import recipes
from runtime.storage.log import read_metrics
from tests.runtime.conftest import SPECS

CRATE = str(SPECS / "crate.crate")
SMALL = "sizes={image: 32, patch: 8, channels: 3, classes: 10, d: 16, K: 2, L: 2}"
TINY = [
    SMALL,
    "batch=8",
    "steps=4",
    "schedule.warmup=1",
    "data.crops=16",
    "data.held_out_images=10",
    "evaluate_batch=4",
]


# ---- overlap ---------------------------------------------------------------------------------------------------------


def iou(found: np.ndarray, mask: np.ndarray) -> float:
    return (found & mask).sum() / (found | mask).sum()


def binarised(values: np.ndarray) -> np.ndarray:
    """The fewest entries that hold at least 60 % of the sum, largest first."""
    kept, held = np.zeros(values.shape, dtype=bool), 0.0
    for place in np.argsort(-values, axis=None):
        if held >= 0.6 * values.sum():
            break
        kept.flat[place] = True
        held += values.flat[place]
    return kept


def test_overlaps_by_hand() -> None:
    """Image by image and head by head in numpy, of the attention of a compiled network, in batches of 3."""
    sizes = {"image": 32, "patch": 8, "channels": 3, "classes": 10, "d": 16, "K": 2, "L": 2}
    network = compile_network(SPECS / "crate.crate", None, sizes, dtype=torch.float64).module
    torch.nn.init.normal_(network.encoder[1].compress.U)  # maps that are far from even
    images = Composites(held_out_images=7).open(Shape(3, 32, 32)).held_out
    inputs = images.take(range(7), None).images.double()
    masks = images.masks(range(7)).numpy()
    found = overlaps(network, Doubled(images), 3)
    maps = attention_maps(network, inputs)
    assert [each.layer for each in found] == list(maps) == ["encoder.0.compress", "encoder.1.compress"]
    for each, weights in zip(found, maps.values(), strict=True):
        table = np.empty((7, 2))
        for image, head in np.ndindex(7, 2):
            coarse = binarised(weights[image, head, 0, 1:].numpy().reshape(4, 4))
            table[image, head] = iou(np.kron(coarse, np.ones((8, 8), dtype=bool)), masks[image])
        assert each.best == pytest.approx(table.max(1).mean(), abs=1e-6)
        assert each.heads == pytest.approx(table.mean(0), abs=1e-6)


class Doubled:
    """A split whose images are in float64."""

    def __init__(self, images: object) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: range, draw: None) -> object:
        batch = self.images.take(indices, draw)
        return type(batch)(batch.inputs.double(), batch.labels)

    def masks(self, indices: range) -> torch.Tensor:
        return self.images.masks(indices)


def test_no_choice_of_patches_is_better_than_the_ceiling() -> None:
    """All 511 choices of 3 x 3 patches."""
    masks = torch.rand(5, 6, 9, generator=torch.Generator().manual_seed(0)) < 0.4
    best = np.zeros(5)
    for bits in itertools.product([False, True], repeat=9):
        chosen = np.kron(np.array(bits).reshape(3, 3), np.ones((2, 3), dtype=bool))
        best = np.maximum(best, [iou(chosen, mask) for mask in masks.numpy()])
    np.testing.assert_allclose(ceiling(masks, (3, 3)).numpy(), best, atol=1e-10)


def test_shuffled_maps_hold_the_same_patches_elsewhere() -> None:
    maps = torch.rand(3, 2, 4, 5, dtype=torch.float64)
    found = shuffled(maps, 1)
    assert torch.equal(found.flatten(2).sort().values, maps.flatten(2).sort().values)
    assert torch.equal(found, shuffled(maps, 1)) and not torch.equal(found, shuffled(maps, 2))
    moved = (found != maps).flatten(2).any(2)
    assert moved.all(), "every head of every image by itself"


def test_random_maps_are_worse_than_the_ceiling_and_better_with_more_heads() -> None:
    masks = torch.zeros(300, 16, 16, dtype=torch.bool)
    masks[:, 4:12, 4:8] = True  # two of sixteen patches
    one, many = bounds(masks, 1, (4, 4)), bounds(masks, 8, (4, 4))
    assert one.ceiling == many.ceiling == 1
    # A map of uniform numbers has 60 % of its mass in 6 of 16 patches, mostly; of one head the mean is that of chance.
    by_chance = np.random.default_rng(0)
    trials = []
    for _ in range(4000):
        coarse = binarised(by_chance.random((4, 4)))
        trials.append(iou(np.kron(coarse, np.ones((4, 4), dtype=bool)), masks[0].numpy()))
    assert one.random == pytest.approx(np.mean(trials), abs=0.02) and many.random > one.random + 0.05


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ablation") / "out"
    ablation.main([CRATE, *TINY, "--seeds", "0,1", "--out", str(folder)])
    return folder


def test_the_table_is_what_the_runs_have_left(out: Path) -> None:
    found = json.loads((out / "table.json").read_text())
    assert [row["operators"] for row in found["combinations"]] == [each.name for each in COMBINATIONS]
    assert (found["images"], found["share_of_mass"]) == (10, 0.6)
    for row in found["combinations"]:
        for seed in ("0", "1"):
            path = out / "runs" / row["operators"].lower().replace(" + ", "-") / f"seed-{seed}"
            last = read_metrics(path / "metrics.jsonl")[-1]
            assert (last["split"], last["step"]) == ("held_out", 4)
            gained = row["runs"][seed]
            assert gained["outcome"]["figures"]["accuracy"] == pytest.approx(last["accuracy"], abs=1e-6)
            assert [each["layer"] for each in gained["overlaps"]] == ["encoder.0", "encoder.1"]
            assert gained["initial"] != gained["overlaps"]
            for each in [*gained["overlaps"], *gained["initial"]]:
                assert len(each["heads"]) == 2 and 0 <= max(each["heads"]) <= each["best"] < found["bounds"]["ceiling"]


def test_what_was_before_training_is_the_compiled_network(out: Path) -> None:
    recipe = recipes.load(out / "runs" / "mssa-ista" / "seed-1" / "recipe.yaml")
    network = compile_network(SPECS / "crate.crate", recipe.preset, recipe.sizes, seed=1).module
    expected = overlaps(network, recipe.splits(Shape(3, 32, 32)).held_out, 10)
    found = json.loads((out / "table.json").read_text())["combinations"][0]["runs"]["1"]["initial"]
    for each, overlap in zip(found, expected, strict=True):
        assert each["best"] == pytest.approx(overlap.best, abs=1e-6)
        assert each["heads"] == pytest.approx(overlap.heads, abs=1e-6)


def test_every_number_is_in_the_csv_and_in_the_markdown(out: Path) -> None:
    found = json.loads((out / "table.json").read_text())
    lines = list(csv.DictReader((out / "table.csv").open()))
    assert len(lines) == 4 * 2 * 2 * 7  # combinations, seeds, layers; shuffled, and twice the best and two heads
    text = (out / "table.md").read_text()
    for row in found["combinations"]:
        for seed, gained in row["runs"].items():
            for number, (each, start) in enumerate(zip(gained["overlaps"], gained["initial"], strict=True), 1):
                place = {"operators": row["operators"], "seed": seed, "layer": str(number)}
                here = [line for line in lines if place.items() <= line.items()]
                values = {(line["maps"], line["head"]): float(line["coarse_miou"]) for line in here}
                expected = {("shuffled", ""): each["shuffled"]}
                for maps, overlap in {"attention": each, "untrained": start}.items():
                    expected |= {(maps, ""): overlap["best"]}
                    expected |= {(maps, str(head)): value for head, value in enumerate(overlap["heads"], 1)}
                assert values == expected
        last = [100 * gained["overlaps"][-1]["best"] for gained in row["runs"].values()]
        assert f"| {np.mean(last):.1f} ({min(last):.1f} to {max(last):.1f}) |" in text
    assert (out / "plot.svg").read_text().count("<svg") == 1 and (out / "plot.png").stat().st_size > 5000


def test_finished_runs_are_kept_and_unfinished_ones_continued(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads((out / "table.json").read_text())
    (out / "runs" / "mhsa-ista" / "seed-1" / "outcome.json").unlink()
    ablation.main([CRATE, *TINY, "--seeds", "0,1", "--out", str(out)])
    assert "step 4/4" not in capsys.readouterr().out, "the checkpoint of its last step is there"
    after = json.loads((out / "table.json").read_text())
    for found in (before, after):
        del found["combinations"][2]["runs"]["1"]["outcome"]["seconds"]
    assert after == before
    with pytest.raises(UserError, match="holds a run with another recipe"):
        ablation.main([CRATE, *TINY, "batch=4", "--out", str(out)])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "one spec is needed, 0 were given"),
        ([CRATE, CRATE], "one spec is needed, 2 were given"),
        ([CRATE, "--seeds", "0,0"], "--seeds 0,0: different whole numbers"),
        ([CRATE, "--recipe", "classify_digits"], "data digits has no masks of objects .* data=composites has"),
        ([str(SPECS / "tost.crate"), SMALL], "no eta, lambda"),
    ],
)
def test_mistakes_are_named(words: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=complaint):
        ablation.main(words)
    assert not list(tmp_path.iterdir())
