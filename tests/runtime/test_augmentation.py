"""Augmentation on the device: operations against PIL and scipy, per-image draws, shares, mixed labels, runs."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage
from torch import Tensor

from runtime import seeds
from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.images import operations
from runtime.images.augmentation import RANDAUGMENT, Augmentation, boxes
from runtime.images.operations import by_choice
from runtime.network import compile_network
from runtime.parallel import World
from runtime.recipe import recipes
from runtime.recipe.schema import SOURCES, TASKS
from runtime.training import trainer
from tests.runtime.conftest import SPECS, Train
from tests.runtime.test_resume import assert_same_end

SOURCE = SOURCES["digits"]()
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 12, 10, 3), dtype=np.uint8)
PIXELS[1, :, :, 0] = 77  # a channel of one value
PICTURES = [Image.fromarray(pixels) for pixels in PIXELS]


def tensor(pixels: np.ndarray) -> Tensor:
    return torch.as_tensor(pixels).permute(0, 3, 1, 2) / 255


def applied(operation: operations.Operation, strengths: list[float]) -> Tensor:
    """One operation on all pictures, through values scaled to [-1, 1] and back, as a batch is."""
    images = SOURCE.displayed(SOURCE.scaled(tensor(PIXELS).float()))
    return by_choice(images, torch.zeros(len(images), dtype=torch.int64), torch.tensor(strengths), [operation])


def enhanced(kind: type, offset: float = 1.0) -> Callable[[Image.Image, float], Image.Image]:
    return lambda picture, strength: kind(picture).enhance(offset + strength)


BY_PIL = {
    "brightness": (operations.brightness, enhanced(ImageEnhance.Brightness), [-0.6, 0.3, 0.9]),
    "contrast": (operations.contrast, enhanced(ImageEnhance.Contrast), [-0.6, 0.3, 0.9]),
    "saturation": (operations.saturation, enhanced(ImageEnhance.Color), [-0.6, 0.3, 0.9]),
    "sharpness": (operations.sharpness, enhanced(ImageEnhance.Sharpness), [-0.6, 0.3, 0.9]),
    "posterize": (operations.posterize, lambda p, s: ImageOps.posterize(p, 8 - round(s)), [0.0, 1.2, 4.0]),
    "solarize": (operations.solarize, lambda p, s: ImageOps.solarize(p, math.ceil(255 * (1 - s))), [0.0, 0.31, 0.9]),
    "auto_contrast": (operations.auto_contrast, lambda p, s: ImageOps.autocontrast(p), [0.0] * 3),
    "equalize": (operations.equalize, lambda p, s: ImageOps.equalize(p), [0.0] * 3),
    "nothing": (operations.nothing, lambda p, s: p, [0.0] * 3),
}


@pytest.mark.parametrize("name", BY_PIL)
def test_operations_are_those_of_pil(name: str) -> None:
    operation, reference, strengths = BY_PIL[name]
    expected = np.stack([np.asarray(reference(p, s)) for p, s in zip(PICTURES, strengths, strict=True)])
    exact = name in ("posterize", "solarize", "equalize", "nothing")
    # Else PIL rounds what it blends with to a level and cuts the blend off to another: below two levels together.
    assert (applied(operation, strengths) - tensor(expected)).abs().max() * 255 < (0.3 if exact else 2)


def test_hue_is_that_of_the_colour_circle() -> None:
    strengths = [-0.5, 0.1, 0.3]
    for image, pixels, strength in zip(applied(operations.hue, strengths), PIXELS, strengths, strict=True):
        for row, column in ((0, 0), (5, 3), (11, 9)):
            h, s, v = colorsys.rgb_to_hsv(*(pixels[row, column] / 255))
            assert image[:, row, column].tolist() == pytest.approx(
                colorsys.hsv_to_rgb((h + strength) % 1, s, v), abs=1e-5
            )


MAPS = {  # from coordinates (row, column) of the result to those of the image
    "shear x": (operations.shear(0), lambda y, x, s: (y, x - s * y)),
    "shear y": (operations.shear(1), lambda y, x, s: (y - s * x, x)),
    "translate x": (operations.translate(0), lambda y, x, s: (y, x - 10 * s)),
    "translate y": (operations.translate(1), lambda y, x, s: (y - 12 * s, x)),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_against_scipy(name: str) -> None:
    operation, where = MAPS[name]
    rows, columns = np.mgrid[:12, :10].astype(float)
    strengths = [-0.25, 0.13, 0.3]
    for image, pixels, strength in zip(applied(operation, strengths), PIXELS, strengths, strict=True):
        for channel in range(3):
            place = where(rows, columns, strength)
            expected = ndimage.map_coordinates(
                pixels[..., channel] / 255, place, order=1, cval=0.0, mode="grid-constant"
            )
            assert np.abs(image[channel].numpy() - expected).max() < 1e-4


def test_rotation_by_a_quarter_turn() -> None:
    images = torch.rand(2, 3, 9, 9)
    turned = by_choice(images, torch.zeros(2, dtype=torch.int64), torch.tensor([90.0, -90.0]), [operations.rotate])
    assert torch.allclose(turned[0], images[0].rot90(1, (1, 2)), atol=1e-5)
    assert torch.allclose(turned[1], images[1].rot90(-1, (1, 2)), atol=1e-5)


ALL = Augmentation(
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, randaugment=(2, 9), erasing=0.5, mixup=0.8, cutmix=1.0
)
SINGLE = [
    Augmentation(brightness=0.4, contrast=0.3, hue=0.2),
    Augmentation(randaugment=(3, 15)),
    Augmentation(erasing=0.7),
    Augmentation(mixup=0.4),
    Augmentation(cutmix=1.0),
    ALL,
]


def batch_of(count: int, channels: int = 3, kind: torch.dtype = torch.float32) -> Batch:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(count, channels, 12, 12, generator=generator) * 2 - 1
    return Batch(images.to(kind), torch.randint(5, (count,), generator=generator))


def apply(options: Augmentation, batch: Batch, rows: slice | None = None, step: int = 4) -> Batch:
    return options.apply(batch, SOURCE, (1, step), rows or slice(0, len(batch)), 16, 5)


@pytest.mark.parametrize("options", SINGLE, ids=str)
@pytest.mark.parametrize("share", [2, 4, 8])
def test_shares_of_a_batch_are_the_batch(options: Augmentation, share: int) -> None:
    """Whatever the number of processes and of accumulated shares."""
    whole = batch_of(16)
    expected = apply(options, whole)
    for start in range(0, 16, share):
        rows = slice(start, start + share)
        part = apply(options, Batch(whole.images[rows], whole.labels[rows]), rows)
        assert torch.allclose(part.images, expected.images[rows], atol=1e-6)
        assert torch.allclose(part.labels.double(), expected.labels[rows].double(), atol=1e-6)


@pytest.mark.parametrize("options", SINGLE, ids=str)
def test_images_differ_in_what_happens_to_them(options: Augmentation) -> None:
    one = batch_of(2)
    alike = Batch(one.images.repeat(8, 1, 1, 1), one.labels.repeat(8))
    made = apply(options, alike).images[::2].flatten(1)
    assert len(made.unique(dim=0)) >= 5, "the same image in several rows comes out in several ways"
    torch.manual_seed(9)
    assert torch.equal(apply(options, alike).images[::2].flatten(1), made), "the global generator plays no part"
    assert not torch.equal(apply(options, alike, step=5).images[::2].flatten(1), made)


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    apply(ALL, batch_of(16))
    assert torch.equal(torch.rand(3), expected)


def test_randaugment_draws_all_operations_evenly_and_both_signs() -> None:
    options = Augmentation(randaugment=(1, 30))
    ramp = torch.linspace(-0.9, 0.9, 144).view(1, 1, 12, 12).expand(2000, 3, -1, -1)
    made = options.apply(Batch(ramp), SOURCE, (0, 0), slice(0, 2000), 2000, None).images
    kinds, counts = made.flatten(1).unique(dim=0, return_counts=True)
    signed = sum(sign for _, _, sign in RANDAUGMENT)
    # Saturation leaves grey images alone, both signs and the identity: one result; sharpness changes a ramp little.
    assert 14 <= len(kinds) <= len(RANDAUGMENT) + signed
    assert counts.max() < 2000 * 3 / 14 * 1.3


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_kinds_of_images(channels: int, kind: torch.dtype) -> None:
    made = apply(ALL, batch_of(16, channels, kind))
    assert made.images.dtype == kind and made.images.shape == (16, channels, 12, 12)
    assert made.images.float().abs().max() <= 1.01


def test_scaling_is_undone_and_redone() -> None:
    folder = SOURCES["folder"](path="x", preparation={"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})
    images = tensor(PIXELS).float()
    options = Augmentation(brightness=0.5)
    made = options.apply(Batch(folder.scaled(images)), folder, (0, 0), slice(0, 3), 3, None).images
    plain = options.apply(Batch(SOURCE.scaled(images)), SOURCE, (0, 0), slice(0, 3), 3, None).images
    assert torch.allclose(folder.displayed(made), SOURCE.displayed(plain), atol=1e-5)
    assert not torch.allclose(folder.displayed(made), images, atol=1e-2)


def test_erased_rectangles() -> None:
    ones = Batch(torch.ones(4000, 1, 32, 24))
    zero = Augmentation(erasing=0.25).apply(ones, SOURCE, (0, 0), slice(0, 4000), 4000, None).images == 0
    area = zero.float().mean(dim=(1, 2, 3))
    assert (area > 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    found = area[area > 0]
    assert found.min() > 0.01 and found.max() < 0.36 and found.mean().item() == pytest.approx(0.174, abs=0.015)
    for image in zero[area > 0][:50, 0]:  # a rectangle: all rows and columns that are touched
        assert torch.equal(image, image.any(1)[:, None] & image.any(0)[None, :])
    assert zero.any(0)[0, 0, 0] and zero.any(0)[0, -1, -1]


def test_mixup_blends_neighbours_and_their_labels() -> None:
    batch = batch_of(16)
    made = apply(Augmentation(mixup=0.4), batch)
    weights = torch.as_tensor(seeds.numpy_generator(seeds.BATCH, 1, 4, 3, 1).beta(0.4, 0.4, size=16)).float()
    for row in range(16):
        other = row + 1 if row % 2 == 0 else row - 1
        blend = weights[row] * batch.images[row] + (1 - weights[row]) * batch.images[other]
        assert torch.allclose(made.images[row], blend, atol=1e-6)
        expected = torch.zeros(5)
        expected[batch.labels[row]] += weights[row]
        expected[batch.labels[other]] += 1 - weights[row]
        assert torch.allclose(made.labels[row], expected, atol=1e-6)


def test_cutmix_labels_count_the_pixels() -> None:
    images = (torch.arange(64) % 2).float().view(-1, 1, 1, 1).expand(64, 1, 10, 14)
    made = Augmentation(cutmix=1.0).apply(Batch(images, torch.arange(64) % 2), SOURCE, (0, 0), slice(0, 64), 64, 2)
    ones = made.images.mean(dim=(1, 2, 3))
    assert set(made.images.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(made.labels[:, 1], ones, atol=1e-6)
    assert len(ones.unique()) > 20


def test_both_take_turns() -> None:
    images = (torch.arange(400) % 2).float().view(-1, 1, 1, 1).expand(400, 1, 8, 8)
    made = Augmentation(mixup=1.0, cutmix=1.0).apply(
        Batch(images, torch.arange(400) % 2), SOURCE, (0, 0), slice(0, 400), 400, 2
    )
    blended = ((made.images > 0.001) & (made.images < 0.999)).flatten(1).any(1)
    assert blended.float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_boxes_are_cut_off_at_the_edge() -> None:
    corner = boxes(torch.zeros(1, 1, 6, 6), *(torch.tensor([[value]]) for value in (0.0, 0.99, 4.0, 2.0)))[0, 0]
    expected = torch.zeros(6, 6)
    expected[:2, 4:] = 1
    assert torch.equal(corner, expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_mixed_labels(smoothing: float) -> None:
    """The formula written out, and the hard labels' loss where nothing is mixed."""
    task, logits = TASKS["classify"](label_smoothing=smoothing), torch.randn(6, 4, dtype=torch.float64)
    soft = torch.rand(6, 4).softmax(1)
    smooth = soft.double() * (1 - smoothing) + smoothing / 4
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    assert torch.allclose(task.loss(lambda images: logits, None, Batch(torch.zeros(6), soft), None), expected)
    hard = torch.tensor([0, 1, 2, 3, 0, 1])
    one_hot = torch.nn.functional.one_hot(hard, 4).float()
    losses = [task.loss(lambda images: logits, None, Batch(torch.zeros(6), each), None) for each in (hard, one_hot)]
    assert torch.allclose(*losses)


def test_nothing_is_the_default_and_changes_nothing() -> None:
    batch = batch_of(3)
    assert apply(Augmentation(), batch) is batch


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["augmentation.randaugment=[0, 9]"],
            r"augmentation.randaugment: .* n of at least 1 and m of 0 to 30",
        ),
        (["augmentation.randaugment=[2, 31]"], r"augmentation.randaugment: .* n of at least 1"),
        (["augmentation.mixupp=1"], 'unknown key "augmentation.mixupp"\nknown keys: .* Did you mean "mixup"'),
        (["augmentation.erasing=2"], "augmentation.erasing: .*less than or equal to 1"),
        (["task=mae", "augmentation.mixup=1"], "mixup and cutmix are for the task classify"),
        (["task=language", "data=text", "augmentation.hue=0.1"], "augmentation is for images, data text gives text"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipes.load(recipes.find("classify_digits"), words)


@pytest.mark.parametrize(
    ("words", "processes", "share"),
    [(["augmentation.mixup=0.2", "batch=9"], 1, 9), (["augmentation.cutmix=1", "batch=12", "accumulate=2"], 4, 3)],
)
def test_shares_without_pairs_are_refused_before_training(words: list[str], processes: int, share: int) -> None:
    recipe = recipes.load(recipes.find("classify_digits"), words)
    compiled = compile_network(SPECS / "crate.crate", recipe.preset, recipe.sizes)
    splits = recipe.data.splits(compiled.shape)
    with pytest.raises(UserError, match=f"pair the images of a share, {share} is odd"):
        trainer.check(recipe, compiled.module, splits, World(size=processes))


def test_what_does_not_fit_the_batch() -> None:
    with pytest.raises(UserError, match="3 is odd"):
        apply(Augmentation(mixup=1), batch_of(3))
    with pytest.raises(UserError, match="need data with classes"):
        apply(Augmentation(mixup=1), Batch(torch.zeros(2, 1, 4, 4)))
    with pytest.raises(UserError, match="1 or 3 channels, not 2"):
        apply(Augmentation(hue=0.1), batch_of(2, channels=2))


def test_runs_with_all_of_it_resume_exactly(tiny_run: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["augmentation.randaugment=[1, 9]", "augmentation.mixup=0.8", "augmentation.cutmix=1", "accumulate=2"]
    first, second = (tiny_run("crate", *words, name=name, steps=4) for name in ("first", "second"))
    assert_same_end(first, second)
    plain = tiny_run("crate", "accumulate=2", name="plain", steps=4)
    assert (plain / "weights.safetensors").read_bytes() != (first / "weights.safetensors").read_bytes()
