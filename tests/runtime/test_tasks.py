"""Tasks: losses against formulas written out, and draws that are the same wherever they are repeated."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import crate_dsl
from runtime import seeds
from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.network import Shape, TextShape
from runtime.recipe.schema import SOURCES, TASKS
from runtime.scoring.measure import measure, reference_of
from runtime.tasks.mae import normalised, visible_statistics
from runtime.tasks.task import Task
from tests.runtime.conftest import SPECS
from tests.specs import small_preset

SPEC_OF = {
    "classify": "crate",
    "mae": "crate_mae",
    "reconstruct": "crate_decoder",
    "features": "crate_dino",
    "language": "crate_gpt",
    "masked_language": "crate_bert",
}


def network_of(task: Task) -> nn.Module:
    torch.manual_seed(0)
    path = SPECS / f"{SPEC_OF[task.networks[0]]}.crate"
    return crate_dsl.load(path, preset=small_preset(path.read_text()), d=8, K=2, L=1)


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.rand(6, 1, 8, 8, generator=generator) * 2 - 1, torch.arange(6))


def batch_for(network: nn.Module, images: Batch) -> Batch:
    """Six inputs of a network: the images in its size, or windows of text."""
    if network.input == "image":
        return Batch(F.interpolate(images.inputs, size=network.image_size), images.labels)
    return SOURCES["text"]().open(TextShape.of(network)).train.take(range(6), (0, 0))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_scores_and_shows(name: str, batch: Batch) -> None:
    task = TASKS[name]()
    network = network_of(task)
    batch = batch_for(network, batch)
    task.check(network, 10)
    draw = task.draw(network, 6, seeds.torch_generator(1, 2))
    task.loss(network, task.apparatus(network), batch, draw).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    scores = task.scores(network, batch, draw, task.reference(network, [batch]))
    assert all(values.shape == (6,) for values in scores.values())
    figures = task.summary({key: float(values.detach().mean()) for key, values in scores.items()})
    assert task.metric in figures
    for label, images in task.panels(network, batch, draw).items():
        assert label and images.shape == batch.inputs.shape


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if not task.whole_batch])
def test_the_mean_of_equal_shares_is_the_loss(name: str, batch: Batch) -> None:
    """What gradient accumulation relies on."""
    task = TASKS[name]()
    network = network_of(task)
    trained = task.apparatus(network)
    batch = batch_for(network, batch)
    draw = task.draw(network, 6, seeds.torch_generator(3))
    whole = task.loss(network, trained, batch, draw)
    parts = [slice(0, 3), slice(3, 6)]
    shares = [
        task.loss(network, trained, Batch(batch.inputs[p], batch.labels[p]), None if draw is None else draw[p])
        for p in parts
    ]
    assert torch.allclose(whole, torch.stack(shares).mean(), rtol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_refuses_networks_of_another_kind(name: str) -> None:
    task = TASKS[name]()
    other = next(t for t in TASKS.values() if t().networks != task.networks)()
    with pytest.raises(UserError, match=f'task "{name}" cannot train a network of the kind "{other.networks[0]}"'):
        task.check(network_of(other), 10)


def test_classify_compares_numbers_of_classes() -> None:
    task = TASKS["classify"]()
    with pytest.raises(UserError, match="the network has 10 classes, the data have 3: sizes.classes=3"):
        task.check(network_of(task), 3)
    with pytest.raises(UserError, match="needs data with classes"):
        task.check(network_of(task), None)


def test_patch_normalisation_uses_the_unbiased_variance() -> None:
    patches = torch.tensor([[1.0, 2.0, 3.0, 6.0]])
    variance = (4 + 1 + 0 + 9) / 3  # about the mean, 3
    assert torch.allclose(normalised(patches), (patches - 3) / math.sqrt(variance + 1e-6))


def test_visible_statistics_do_not_read_removed_patches() -> None:
    patches = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    removed = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(1, 4, 1).expand(2, 4, 1)
    other = torch.where(removed > 0, 7.0, patches)
    for mine, theirs in zip(visible_statistics(patches, removed), visible_statistics(other, removed), strict=True):
        assert torch.equal(mine, theirs)


def test_the_picture_says_which_statistics_it_uses(batch: Batch) -> None:
    plain, normal = TASKS["mae"](), TASKS["mae"](normalise=True)
    network = network_of(plain)
    draw = plain.draw(network, 6, seeds.torch_generator(0))
    assert "prediction" in plain.panels(network, batch, draw)
    assert any("visible patches)" in label for label in normal.panels(network, batch, draw))


@pytest.mark.parametrize(("ratio", "left"), [(0.99, "none of 16"), (0.0, "all of 16")])
def test_a_mask_hides_some_patches_and_not_all(ratio: float, left: str) -> None:
    task = TASKS["mae"]()
    network = network_of(task)
    network.mask_ratio = ratio
    with pytest.raises(UserError, match=f"leaves {left} patches"):
        task.check(network, None)


def test_the_mean_fill_is_the_average_of_the_training_set() -> None:
    task = TASKS["mae"]()
    network = network_of(task)
    splits = SOURCES["digits"]().open(shape_of(network))
    reference = reference_of(task, network, splits.train, 100)
    assert torch.allclose(reference, network.patchify(splits.train.images).mean(0), atol=1e-6)
    figures = measure(task, network, splits.held_out, 256, "float32", reference)
    assert figures["ratio_to_mean_fill"] == figures["masked_error"] / figures["mean_fill_error"]
    assert 0.27 < figures["mean_fill_error"] < 0.32
    assert measure(task, network, splits.held_out, 256, "float32", reference) == figures


def shape_of(network: nn.Module) -> Shape:
    return Shape(network.channels, *network.image_size)


class Identity(nn.Module):
    """A "denoiser" that returns its input as patches of one pixel."""

    task, channels, image_size = "reconstruct", 1, (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        return self.patchify(images)

    def patchify(self, images: Tensor) -> Tensor:
        return images.flatten(2).transpose(1, 2)


def test_doing_nothing_gains_nothing() -> None:
    task = TASKS["denoise"](noise=0.5)
    held_out = SOURCES["digits"]().open(shape_of(Identity())).held_out
    figures = measure(task, Identity(), held_out, 128, "float32")
    assert abs(figures["gain_db"]) < 1e-5
    assert abs(figures["noisy_db"] - 10 * math.log10(4 / 0.25)) < 0.1
