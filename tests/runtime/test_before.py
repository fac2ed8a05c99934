"""Before a run: the rehearsal that leaves nothing, the estimate that needs no data, a few inputs learned by heart."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from crate_dsl import Compilation
from crate_dsl.errors import Source
from runtime import train
from runtime.errors import UserError
from runtime.network import Compiled, Shape, built, compile_network, parameter_count
from runtime.products import ends
from runtime.recipe import recipes
from runtime.recipe.schema import Recipe
from runtime.storage.log import read_metrics
from runtime.storage.run_folder import RunFolder, recipe_in
from runtime.training import meter, sharding
from runtime.training.estimate import Rehearsed, duration, size, state_bytes
from runtime.training.launch import chosen
from runtime.training.objective import Objective
from runtime.training.rehearsal import rehearse
from tests.runtime.conftest import RECIPES, SPECS, TINY

CRATE = str(SPECS / "crate.crate")
SMALL = TINY[:4]  # sizes and batch

# ---- --dry-run -------------------------------------------------------------------------------------------------------


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """What lies in the working folder and in that for temporary files, both empty at first; torch's cache aside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: [path for path in tmp_path.iterdir() if not path.name.startswith("torchinductor")]


OVERRIDES = {
    "crate": ["ema=0.9", "accumulate=2", "augmentation={randaugment: [2, 9], mixup: 0.8}", "wandb=project"],
    "crate_dino": ["task.head.hidden=16", "task.views.local=1"],
    "crate_gpt": ["optimizer=lion"],
    "tost": ["sizes.drop=0.3"],
    "tost_vision": ["accumulate=2"],
}


@pytest.mark.parametrize("spec", OVERRIDES)
def test_a_rehearsal_ends_as_it_should_and_leaves_nothing(
    spec: str, left: Callable[[], list[Path]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(SPECS / f"{spec}.crate"), "--recipe", RECIPES[spec], "--dry-run", *SMALL]
    train.main([*words, *OVERRIDES[spec]])
    printed = capsys.readouterr().out
    assert "step 1/2" in printed and "step 2/2  held out: " in printed
    assert printed.endswith("dry run: fine, the resumed run ended with the same bits\n")
    assert left() == []


def planted_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss depends on numbers that do not begin again when a run goes on from a checkpoint."""
    forward, generator = Objective.forward, torch.Generator().manual_seed(0)

    def noisy(self: Objective, inputs: Tensor, *more: Tensor | None) -> Tensor:
        return forward(self, inputs + torch.randn(inputs.shape, generator=generator), *more)

    monkeypatch.setattr(Objective, "forward", noisy)


def forgotten_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run begins with an optimiser that knows nothing."""
    monkeypatch.setattr(sharding, "fill_optimizer", lambda optimizer, state: None)


@pytest.mark.parametrize("plant", [planted_draw, forgotten_state])
def test_a_run_that_would_not_resume_exactly_is_found(
    plant: Callable[[pytest.MonkeyPatch], None], left: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(UserError, match=r"dry run: after resuming, \S+ differs from that of the run that went through"):
        train.main([CRATE, "--dry-run", *SMALL])
    assert left() == []


REFUSED = {
    "no data": (["--recipe", "classify_imagenet", "preset=tiny"], "imagenet/train: no such folder of pictures"),
    "no weights": (["initialisation.weights=nowhere"], "nowhere: not the folder of a run, nor a weights file"),
    "another task": (["--recipe", "mae_digits"], 'task "mae" cannot train a network of the kind "classify"'),
    "a folder": (["--out", "run"], "--dry-run and --estimate keep nothing: leave --out away"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_run_would_refuse(
    name: str,
    left: Callable[[], list[Path]],
    status: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, message = REFUSED[name]
    assert status(train, CRATE, "--dry-run", *words, "sizes.L=1") == 1
    printed = capsys.readouterr()
    assert message in printed.err and "Traceback" not in printed.err and not printed.out
    assert left() == []


def test_a_rehearsal_takes_the_whole_training_data(
    left: Callable[[], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the held-out data two batches are enough; an evaluation may compare with all training inputs."""
    seen = {}
    monkeypatch.setattr(train, "rehearse", lambda recipe, make, splits, world: seen.update(given=(recipe, splits)))
    train.main([CRATE, "--dry-run", *SMALL, "evaluate_batch=10", "epochs=3"])
    recipe, splits = seen["given"]
    trained = {}
    monkeypatch.setattr("runtime.training.rehearsal.compare", lambda one, other, world: trained.update(one=one))
    rehearse(recipe, lambda: compile_network(Path(CRATE), recipe.preset, recipe.sizes), splits, world=train.World())
    short = trained["one"]
    assert (short.total, len(short.splits.train), len(short.splits.held_out)) == (2, len(splits.train), 20)


# ---- --estimate ------------------------------------------------------------------------------------------------------

CODES = """network Codes
size image = 16, patch = 4, channels = 1, classes = 10
size d = 24, m = 40, L = 2
real eta = 0.1, lambda = 0.1
energy lasso(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)
energy wide(A: m x N | X: d x N, D: d x m) = 1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)
input image(channels, image, image)
tokens Z: d x N = patches(patch) + position(learned)
encoder repeat L {
    STEP
}
head HEAD of mean
"""
WIDE = "sparsify Z by wide(A | Z, D) { norm layer; from 0; steps 2 of eta; read D1; residual raw }"
COLLECTED = "sparsify Z by lasso(A | Z, D) { norm layer; from Z; steps 1 of eta }"  # by I + eta D' - eta D'D


def measured(step: str, head: str, recipe: Recipe) -> tuple[Rehearsed, FlopCounterMode]:
    text = CODES.replace("STEP", step).replace("HEAD", head)
    run = Rehearsed(recipe, built(Compilation(Source("codes.crate", text), None, {})))
    with FlopCounterMode(display=False) as counter:
        run.gradient()
    return run, counter


def bare(name: str, *overrides: str) -> Recipe:
    """A recipe of digits for the network above."""
    return recipes.load(recipes.find(name), ["preset=null", "sizes={}", "batch=16", "device=cpu", *overrides])


def test_operations_are_those_that_torch_counts() -> None:
    run, counter = measured(WIDE, "classify(classes)", bare("classify_digits"))
    assert run.flops * run.count == counter.get_total_flops() > 0


def test_operations_of_convolutions_and_class_attention_too() -> None:
    """Of all but the layers. Torch has no count for the fused attention of processors: 17 tokens, 96 features."""
    compiled = compile_network(SPECS / "tost_vision.crate", "digits", {"image": 32, "patch": 8})
    compiled.module.encoder = nn.ModuleList()
    with FlopCounterMode(display=False) as counter:
        compiled.module(torch.randn(16, 1, 32, 32)).sum().backward()
    counted = [(1 + product.backward) * product.flops for product in ends(compiled.compilation, compiled.module, 16)]
    fused = 2 * 3 * (2 * 16 * 2 * 96 * 17)
    assert sum(counted) == counter.get_total_flops() + fused > 2 * fused


def test_operations_of_all_views_are_counted() -> None:
    views = bare("simdino_digits", "task.head={hidden: 16, bottleneck: 8}", "task.views.local=3")
    run, counter = measured(WIDE, "features", views)
    counts = counter.get_flop_counts()
    parts = [sum(counts[f"Objective.trained.{name}"].values()) for name in ("network", "teacher")]
    assert run.flops * run.count == sum(parts) and min(parts) > 0


def test_products_of_weights_alone_are_counted_once() -> None:
    """They do not grow with the inputs; biases, which torch leaves out, are less than the tolerance."""
    run, counter = measured(COLLECTED, "classify(classes)", bare("classify_digits"))
    assert run.flops * run.count == pytest.approx(counter.get_total_flops(), rel=0.05)
    few, counter = measured(COLLECTED, "classify(classes)", bare("classify_digits", "batch=4"))
    assert few.flops * few.count == pytest.approx(counter.get_total_flops(), rel=0.1)
    assert few.flops > 1.2 * run.flops


def test_memory_is_that_of_weights_gradients_and_moments() -> None:
    run = Rehearsed(*network("classify_digits"))
    weights = 4 * parameter_count(run.network)
    assert state_bytes(run) == weights
    run.gradient()
    assert state_bytes(run) == 2 * weights
    run.update()
    counters = 4 * len(list(run.network.parameters()))  # of AdamW's steps, one per tensor
    assert state_bytes(run) == 4 * weights + counters


def test_memory_counts_averages_and_teachers() -> None:
    run = Rehearsed(*network("classify_digits", "ema=0.9", "optimizer=lion"))
    run.gradient()
    run.update()
    assert state_bytes(run) == (3 + 2) * 4 * parameter_count(run.network)
    run = Rehearsed(*network("simdino_digits", "optimizer=lion", spec="crate_dino"))
    run.gradient()
    run.update()
    student = sum(value.numel() for value in run.trained.sources())
    steps = run.trained.steps
    assert state_bytes(run) == (3 + 1) * 4 * student + steps.element_size()


def network(name: str, *overrides: str, spec: str = "crate") -> tuple[Recipe, Compiled]:
    _, recipe = chosen(SPECS / f"{spec}.crate", name, [*SMALL, "ema=null", *overrides])
    return recipe, compile_network(SPECS / f"{spec}.crate", recipe.preset, recipe.sizes)


def test_an_estimate_in_print(left: Callable[[], list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    """Of a recipe whose data are not here, which has steps, and which an accelerator would compile."""
    words = ["preset=tiny", "sizes.d=24", "sizes.K=2", "sizes.L=2", "epochs=null", "steps=50", "batch=2048"]
    train.main([CRATE, "--recipe", "classify_imagenet", "--estimate", "device=cpu", *words])
    printed = capsys.readouterr().out
    rows = dict(re.findall(r"^│ (.+?) +│ +(.+?) │", printed, re.MULTILINE))
    recipe = recipes.load(recipes.find("classify_imagenet"), words)
    compiled = compile_network(Path(CRATE), recipe.preset, recipe.sizes)
    count = parameter_count(compiled.module)
    assert rows["parameters"] == f"{count:,}"
    by_symbol = [int(value.replace(",", "")) for name, value in rows.items() if name.startswith("parameters ")]
    assert sum(by_symbol) == count and rows["parameters encoder D"] == f"{2 * 24 * 24:,}"
    assert rows["weights, gradients, optimiser"] == size(3 * 4 * count)  # Lion has one moment
    assert "512 at a time" in printed and "not compiled" in printed and rows["time of the run"].count(":") == 2
    assert left() == []


@pytest.mark.parametrize(("bfloat16", "fastest", "tries"), [(100.0, 1.0, 2), (0.5, 0.5, 5)])
def test_the_rate_of_a_machine_is_that_of_its_fastest_products(
    monkeypatch: pytest.MonkeyPatch, bfloat16: float, fastest: float, tries: int
) -> None:
    """A processor that only imitates bfloat16 would give runs several times its rate."""
    clock = SimpleNamespace(now=0.0)

    def perf_counter() -> float:
        clock.now += bfloat16 if torch.is_autocast_enabled("cpu") else 1.0
        return clock.now

    monkeypatch.setattr(meter, "SIDES", {"cpu": 8})
    monkeypatch.setattr(meter, "time", SimpleNamespace(perf_counter=perf_counter))
    assert meter.product_rate(torch.device("cpu"), "bfloat16") == 2 * 8**3 / fastest
    assert clock.now == 2 * (5 + tries * bfloat16), "no further tries of what is slower by far"


def test_a_long_step_is_told_in_hours() -> None:
    assert (duration(0.1994), duration(59.9), duration(25_984)) == ("0.199 s", "59.9 s", "7:13:04")


def test_an_estimate_of_what_cannot_be_trained() -> None:
    with pytest.raises(UserError, match='task "mae" cannot train a network of the kind "classify"'):
        train.main([CRATE, "--recipe", "mae_digits", "--estimate", "preset=null", *SMALL])


# ---- --overfit -------------------------------------------------------------------------------------------------------


def test_eight_digits_are_learned_by_heart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = ["sizes.d=24", "sizes.K=2", "sizes.L=2", "epochs=null", "steps=100", "log_every=1", "ema=null"]
    more = ["schedule=constant", "optimizer.lr=6e-3", "augmentation={mixup: 0.8}"]
    train.main([CRATE, "--overfit", "8", "--out", str(out), *words, *more])
    entries = read_metrics(out / "metrics.jsonl")
    losses = [entry["loss"] for entry in entries if entry["split"] == "train"]
    assert len(losses) == 100 and losses[-1] < 0.03 * losses[0]
    held_out = entries[-1]
    assert held_out["accuracy"] == 1 and held_out["cross_entropy"] < 0.1
    recipe = recipe_in(RunFolder(out))
    assert recipe.overfit == 8 and recipe.batch == 8 and not recipe.augmentation.mixes
    assert "last weights, those learned by heart (overfit), 8 images" in capsys.readouterr().out


def test_nothing_is_varied_and_nothing_else_is_seen() -> None:
    _, recipe = chosen(Path(CRATE), None, ["overfit=8"])
    shape = Shape(1, 16, 16)
    splits, whole = recipe.splits(shape), recipe.data.splits(shape)
    assert recipe.data.turn and len(splits.train) == len(splits.held_out) == 8 and splits.classes == 10
    first = whole.train.take(range(8), None)
    for draw in ((0, 0), (0, 1), (3, 5)):
        batch = splits.train.take(range(8), draw)
        assert torch.equal(batch.images, first.images) and torch.equal(batch.labels, first.labels)
        assert not torch.equal(whole.train.take(range(8), draw).images, first.images)


@pytest.mark.parametrize(("count", "batch"), [(3, 3), (500, 64)])
def test_a_batch_holds_at_most_the_inputs(count: int, batch: int) -> None:
    _, recipe = chosen(Path(CRATE), None, [f"overfit={count}", "batch=64", "accumulate=2"])
    assert (recipe.batch, recipe.accumulate) == (batch, 1)
