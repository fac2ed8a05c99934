"""Self-distillation: losses against their formulas, the teacher as an exact average, and what a run keeps of it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import crate_dsl
from crate_dsl.errors import Source
from runtime import seeds, train
from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.network import compile_network
from runtime.recipe import recipes
from runtime.recipe.schema import TASKS
from runtime.scoring.coding_rate import coding_rate, effective_rank
from runtime.scoring.measure import measure, reference_of
from runtime.self_supervision.distillation import Distillation, momentum_of
from runtime.self_supervision.self_supervised import SelfDistillation, untrained
from runtime.storage import checkpoint
from runtime.storage.log import read_metrics
from tests.runtime.conftest import SPECS, Train

SIZES = {"image": 8, "patch": 4, "channels": 1, "d": 12, "K": 2, "L": 1}
HEAD = {"hidden": 16, "bottleneck": 6}
PROTOTYPES = {"dino": {"prototypes": 9}, "simdino": {}}
VIEWS = {"local": 2, "noise": 0.1}
NAMES = ("dino", "simdino")


def task_of(name: str, **options: object) -> SelfDistillation:
    return TASKS[name](head=HEAD | PROTOTYPES[name], views=VIEWS, **options)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.rand(10, 1, 8, 8, generator=generator).double() * 2 - 1, torch.arange(10) % 3)


def trained_of(task: SelfDistillation) -> Distillation:
    """An apparatus in float64 whose teacher differs from the student."""
    torch.manual_seed(0)
    trained = task.apparatus(crate_dsl.load(SPECS / "crate_dino.crate", **SIZES)).double()
    with torch.no_grad():
        for parameter in trained.averages():
            parameter.mul_(0.8)
    return trained


def test_stochastic_depth_is_the_students_alone(batch: Batch) -> None:
    text = (SPECS / "crate_dino.crate").read_text().replace("\nencoder", "\nstochastic depth uniform(0.5)\nencoder")
    compilation = crate_dsl.Compilation(Source("dino.crate", text), None, SIZES)
    network = getattr(crate_dsl.module_of(compilation.text, compilation.class_name), compilation.class_name)()
    trained = task_of("dino").apparatus(network).double().train()
    teacher = [trained.taught(batch.images[None]) for _ in range(2)]
    student = [trained.network(batch.images) for _ in range(2)]
    assert torch.equal(*teacher) and not torch.equal(*student)


def outputs(task: SelfDistillation, trained: Distillation, batch: Batch, draw: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of the student for every view, and of the teacher, one view after another."""
    views = list(task.views.of(batch.images, draw))
    student = [trained.head(trained.network(view)) for view in views]
    teacher = [trained.teacher_head(trained.teacher(view)) for view in views[:2]]
    return torch.stack(student).detach().numpy(), torch.stack(teacher).detach().numpy()


def draw_of(task: SelfDistillation, trained: Distillation) -> Tensor:
    return task.draw(trained.network, 10, seeds.torch_generator(4)).double()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


# ---- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 3, 50])
def test_the_loss_of_dino(steps: int, batch: Batch) -> None:
    """Eq. 1 to 4 of Caron et al. 2021 with plain loops: views, images, prototypes."""
    options = {"teacher_temperature": 0.07, "warmup_teacher_temperature": 0.04, "warmup_steps": 10}
    task = task_of("dino", student_temperature=0.2, **options)
    trained = trained_of(task)
    trained.steps += steps
    centre = np.linspace(-0.3, 0.4, 9)
    trained.centre.copy_(torch.as_tensor(centre))
    draw = draw_of(task, trained)
    student, teacher = outputs(task, trained, batch, draw)
    temperature = {0: 0.04, 3: 0.049, 50: 0.07}[steps]
    terms = []
    for t in range(2):
        for s in range(4):
            if s == t:
                continue
            for image in range(10):
                target = softmax((teacher[t, image] - centre) / temperature)
                terms.append(-(target * np.log(softmax(student[s, image] / 0.2))).sum())
    loss = task.loss(trained.network, trained, batch, draw)
    assert abs(loss.item() - np.mean(terms)) < 1e-10 * abs(np.mean(terms))


@pytest.mark.parametrize(("smooth", "gamma"), [(True, None), (False, None), (True, 0.3)])
def test_the_loss_of_simdino(smooth: bool, gamma: float | None, batch: Batch) -> None:
    """-cosine - gamma R with R by numpy's log-determinant on the side of the features."""
    task = task_of("simdino", coefficient=1.7, distortion=0.05, smooth=smooth, gamma=gamma)
    trained = trained_of(task)
    draw = draw_of(task, trained)
    student, teacher = outputs(task, trained, batch, draw)
    pairs = [(t, s) for t in range(2) for s in range(4) if s != t]
    similar = np.mean([(teacher[t, i] * student[s, i]).sum() for t, s in pairs for i in range(10)])
    rates = []
    for view in range(2):
        features = (student[view] + teacher[view]) / 2 if smooth else student[view]
        rates.append(0.5 * np.linalg.slogdet(np.eye(6) + 6 / (10 * 0.05) * features.T @ features)[1])
    weight = (6 + 10) / (6 * 10) if gamma is None else gamma
    expected = -1.7 * similar - weight * np.mean(rates)
    assert abs(task.loss(trained.network, trained, batch, draw).item() - expected) < 1e-10 * abs(expected)


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (2, 5, 5)])
def test_the_coding_rate(shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    count, width = shape[-2:]
    gram = np.eye(width) + width / (count * 0.3) * np.swapaxes(features.numpy(), -1, -2) @ features.numpy()
    assert np.allclose(coding_rate(features, 0.3).numpy(), np.linalg.slogdet(gram)[1] / 2, rtol=1e-12)
    with torch.autocast("cpu", torch.bfloat16):
        assert coding_rate(features.bfloat16(), 0.3).dtype == torch.float32


def test_the_effective_rank() -> None:
    assert abs(effective_rank(torch.eye(5)[torch.arange(20) % 5]).item() - 5) < 1e-4
    assert abs(effective_rank(torch.ones(20, 5)).item() - 1) < 1e-2


# ---- the teacher -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_the_student_only(name: str, batch: Batch) -> None:
    task = task_of(name)
    trained = trained_of(task)
    task.loss(trained.network, trained, batch, draw_of(task, trained)).backward()
    assert all(parameter.grad is None for parameter in trained.averages())
    learned = [parameter for parameter in trained.sources() if parameter.requires_grad]
    assert learned and all(parameter.grad is not None and parameter.grad.any() for parameter in learned)


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_is_the_moving_average(name: str, batch: Batch) -> None:
    task = task_of(name, momentum=0.9)
    trained = trained_of(task)
    expected = [value.detach().clone() for value in trained.averages()]
    for step in range(3):
        task.loss(trained.network, trained, batch, draw_of(task, trained))
        with torch.no_grad():
            for parameter in trained.sources():
                parameter.add_(0.1)
        figures = task.after_step(trained, step, 6)
        momentum = 1 - 0.1 * (1 + math.cos(math.pi * step / 6)) / 2
        assert figures["momentum"] == pytest.approx(momentum)
        new = [source.detach() for source in trained.sources()]
        expected = [momentum * old + (1 - momentum) * value for old, value in zip(expected, new, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(trained.averages(), expected, strict=True))
    assert trained.steps == 3
    assert [momentum_of(0.996, step, 8) for step in (0, 4)] == pytest.approx([0.996, 0.998])


def test_the_teacher_has_the_students_statistics(batch: Batch) -> None:
    """It is evaluated, so its batch norms gather none of their own."""
    text = (SPECS / "crate_dino.crate").read_text().replace("patches(patch)", "convolutions(patch)")
    compilation = crate_dsl.Compilation(Source("convolutional.crate", text), None, SIZES)
    network = getattr(crate_dsl.module_of(compilation.text, compilation.class_name), compilation.class_name)()
    task = task_of("simdino")
    trained = task.apparatus(network).double().train()
    task.loss(trained.network, trained, batch, draw_of(task, trained))
    of_student, of_teacher = (dict(part.named_buffers()) for part in (trained.network, trained.teacher))
    name = "patches.projection.0.1.running_mean"
    assert of_student[name].any() and not of_teacher[name].any()
    task.after_step(trained, 0, 6)
    assert of_student.keys() == of_teacher.keys()
    assert all(torch.equal(value, of_teacher[key]) for key, value in of_student.items())


def test_the_centre_is_the_moving_average_of_the_teachers_outputs(batch: Batch) -> None:
    task = task_of("dino", centre_momentum=0.7)
    trained = trained_of(task)
    expected = np.zeros(9)
    for step in range(2):
        draw = draw_of(task, trained)
        _, teacher = outputs(task, trained, batch, draw)
        for rows in (slice(0, 5), slice(5, 10)):  # as with accumulate = 2
            task.loss(trained.network, trained, Batch(batch.images[rows]), draw[rows])
        task.after_step(trained, step, 5)
        expected = 0.7 * expected + 0.3 * teacher.mean((0, 1))
        assert np.allclose(trained.centre.numpy(), expected, atol=1e-12)


def test_logged_entropies_are_of_the_whole_batch(batch: Batch) -> None:
    task = task_of("dino")
    figures = []
    for shares in ((slice(0, 10),), (slice(0, 5), slice(5, 10))):
        trained = trained_of(task)
        draw = draw_of(task, trained)
        for rows in shares:
            task.loss(trained.network, trained, Batch(batch.images[rows]), draw[rows])
        figures.append(task.after_step(trained, 0, 5))
        assert not trained.seen
    assert {"teacher_entropy", "mean_output_entropy"} <= set(figures[0])
    assert figures[1] == pytest.approx(figures[0], rel=1e-10)


def test_recipes_of_earlier_runs_of_simdino_are_read() -> None:
    assert TASKS["simdino"](head=HEAD | {"prototypes": 65536}) == TASKS["simdino"](head=HEAD)


@pytest.mark.parametrize("name", NAMES)
def test_prototypes_are_of_unit_length_and_only_in_dino(name: str) -> None:
    head = trained_of(task_of(name)).head
    if name == "simdino":
        assert head.prototypes is None and head(torch.randn(4, 12).double()).shape == (4, 6)
    else:
        lengths = head.prototypes.weight.norm(dim=1)
        assert lengths.shape == (9,) and torch.allclose(lengths, torch.ones(9).double())


# ---- runs ------------------------------------------------------------------------------------------------------------

OVERRIDES = {
    name: [f"task={name}", *(f"task.head.{size}={count}" for size, count in (HEAD | PROTOTYPES[name]).items())]
    for name in NAMES
}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_exports_the_teacher_alone(name: str, tiny_run: Train) -> None:
    run = tiny_run("crate_dino", *OVERRIDES[name], "task.views.local=1", steps=4)
    weights, _ = checkpoint.load_weights(run / "weights.safetensors")
    state = checkpoint.read_state(run / "checkpoint.pt")["network"]
    recipe = recipes.load(run / "recipe.yaml")
    network = compile_network(run / "spec.crate", recipe.preset, recipe.sizes, recipe.seed).module
    network.load_state_dict(weights)
    assert all(torch.equal(value, state[f"teacher.{key}"]) for key, value in weights.items())
    assert any(not torch.equal(value, state[f"network.{key}"]) for key, value in weights.items())
    figures = read_metrics(run / "metrics.jsonl")
    assert {"momentum", "teacher_entropy" if name == "dino" else "batch_coding_rate"} <= set(figures[0])
    assert {"knn_accuracy", "knn_untrained", "knn_pixels", "effective_rank"} <= set(figures[-1])


def test_training_spreads_the_features(tiny_run: Train) -> None:
    """The loss falls and the coding rate of the held features rises; the recipes state what nearest neighbours gain."""
    words = ["sizes.d=24", "optimizer.lr=4e-3", "schedule.warmup=5", "evaluate_every=20", "task.momentum=0.9"]
    run = tiny_run("crate_dino", *words, "log_every=10", steps=60)
    figures = read_metrics(run / "metrics.jsonl")
    losses = [entry["loss"] for entry in figures if entry["split"] == "train"]
    held_out = [entry for entry in figures if entry["split"] == "held_out"]
    assert losses[-1] < losses[0] - 0.2
    for guard in ("coding_rate", "effective_rank"):
        assert held_out[-1][guard] > 1.1 * held_out[0][guard]
    assert held_out[-1]["knn_accuracy"] > held_out[-1]["knn_untrained"] - 0.05


def test_the_untrained_network_is_measured() -> None:
    """The stated figure is the score of a network of the class as it is built, by the same protocol."""
    recipe = recipes.load(recipes.find("simdino_digits"))
    compiled = compile_network(SPECS / "crate_dino.crate", recipe.preset, recipe.sizes | {"L": 1}, seed=5)
    splits, task = recipe.data.open(compiled.shape), recipe.task

    def figures(network: nn.Module) -> dict[str, float]:
        reference = reference_of(task, network, splits.train, 256)
        return measure(task, network, splits.held_out, 256, "float32", reference)

    other = figures(compiled.module)
    fresh = untrained(compiled.module)
    assert figures(fresh)["knn_accuracy"] == other["knn_untrained"] == figures(fresh)["knn_untrained"]
    assert 0.95 < other["knn_pixels"] < 0.99


REFUSED = {
    "ema": (["ema=0.9"], "has averaged weights of its own: leave ema out"),
    "accumulate": (["accumulate=2"], "accumulate must be 1"),
    "labels": (
        ["data=photographs", "sizes.channels=3"],
        "scored by nearest neighbours, which needs data with classes",
    ),
    "bounds": (["task.views.global_area=[1, 0.5]"], "task.views.global_area: bounds are positive"),
    "prototypes": (
        ["task.head.prototypes=9"],
        'unknown key "task.head.prototypes"\nknown keys: bottleneck, hidden.',
    ),
    "unknown": (["task.views.locals=3"], 'Did you mean "local"?'),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(case: str, tmp_path: Path) -> None:
    overrides, message = REFUSED[case]
    with pytest.raises(UserError, match=message):
        words = [str(SPECS / "crate_dino.crate"), "--recipe", "simdino_digits", "--out", str(tmp_path / "run")]
        train.main([*words, *overrides])
    assert not (tmp_path / "run").exists()
