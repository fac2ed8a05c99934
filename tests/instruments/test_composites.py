"""Digits over photographs: masks that are the changed pixels, and images that depend on their place only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from sklearn.datasets import load_digits

from runtime.data.composites import INK, PAPER, Composites, covered
from runtime.data.digits import halves
from runtime.data.source import InMemory, Masked, Splits
from runtime.errors import UserError
from runtime.network import Shape
from runtime.recipe import recipes

SHAPE = Shape(3, 32, 32)


@pytest.fixture(scope="module")
def data() -> Composites:
    return Composites(crops=40, held_out_images=60)


@pytest.fixture(scope="module")
def splits(data: Composites) -> Splits:
    return data.open(SHAPE)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_masks_are_exactly_the_pixels_that_the_digit_changed(data: Composites, splits: Splits, split: str) -> None:
    """Against the photographs without digits, dimmed as here."""
    images, rows = splits.of(split), list(range(0, 40, 3))
    assert isinstance(images, Masked)
    behind = images.backgrounds.take([row % len(images.backgrounds) for row in rows], None).images
    changed = images.take(rows, None).images != data.dim * (behind + 1) - 1
    masks = images.masks(rows)
    assert masks.dtype == torch.bool and masks.shape == (len(rows), 32, 32)
    assert torch.equal(changed.any(dim=1), masks) and torch.equal(changed.all(dim=1), masks)
    assert 0.03 < masks.float().mean() < 0.5


def test_an_image_is_alpha_composited(data: Composites, splits: Splits) -> None:
    """Pixel by pixel in numpy: share of ink times colour, plus the rest times the photograph."""
    images, row = splits.held_out, 7
    placed, photograph = next(images.parts([row], None))
    alpha, colour, behind = placed.cover.numpy(), placed.colour.numpy(), photograph.numpy()
    expected = np.empty((3, 32, 32))
    for channel, top, left in np.ndindex(3, 32, 32):
        share = alpha[top, left]
        expected[channel, top, left] = share * colour[channel, 0, 0] + (1 - share) * behind[channel, top, left]
    np.testing.assert_allclose(images.take([row], None).images[0].numpy(), expected, atol=1e-6)
    assert colour.min() > behind.max(), "the digit is brighter than all photographs in every channel"


@pytest.mark.parametrize("side", [5, 8, 21])
def test_cover_is_the_bilinear_digit(side: int) -> None:
    """scipy's linear interpolation at the centres of the new pixels, edges repeated, then cut to paper and ink."""
    digit = load_digits().images[3] / 16
    centres = (np.arange(side) + 0.5) * 8 / side - 0.5
    smooth = map_coordinates(digit, np.meshgrid(centres, centres, indexing="ij"), order=1, mode="nearest")
    expected = np.clip((smooth - PAPER) / (INK - PAPER), 0, 1)
    expected[expected < 1 / 256] = 0
    np.testing.assert_allclose(covered(torch.as_tensor(digit)[None], side).numpy(), expected, atol=1e-10)


def place_of(cover: torch.Tensor, digit: torch.Tensor) -> tuple[int, int, int]:
    """Side, top and left of the whole digit in the frame, by trying all."""
    for side in range(19, 30):
        whole = covered(digit, side)
        if whole.count_nonzero() == cover.count_nonzero():
            for top, left in np.ndindex(33 - side, 33 - side):
                if torch.equal(cover[top : top + side, left : left + side], whole):
                    return side, top, left
    raise AssertionError("nowhere in the image is the whole digit")


def test_digits_are_whole_of_the_size_asked_for_and_everywhere(splits: Splits) -> None:
    parts = splits.train.parts(range(40), (3, 1))
    found = [place_of(placed.cover, splits.train.ink[row]) for row, (placed, _) in enumerate(parts)]
    assert all(len(set(numbers)) > 5 for numbers in zip(*found, strict=True))


def test_labels_are_those_of_the_digits_and_digits_do_not_cross(splits: Splits) -> None:
    (train, train_labels), (held_out, held_out_labels) = halves()
    for images, ink, labels in ((splits.train, train, train_labels), (splits.held_out, held_out, held_out_labels)):
        rows = [0, len(images) - 1]
        assert torch.equal(images.take(rows, None).labels, labels[rows])
        assert torch.equal(images.ink * 2 - 1, ink)
    values = {tuple(image.flatten().tolist()) for image in train}
    assert not values & {tuple(image.flatten().tolist()) for image in held_out}
    more = Composites(held_out_images=400).open(SHAPE).held_out
    assert torch.equal(more.take([399], None).labels, held_out_labels[[39]]), "after 360 the digits begin again"


def test_draws_are_functions_of_seed_epoch_and_index(data: Composites, splits: Splits) -> None:
    rows, train = [3, 11], splits.train
    images = train.take(rows, (5, 2)).images
    again = data.open(SHAPE).train
    assert torch.equal(torch.cat([again.take([row], (5, 2)).images for row in reversed(rows)]).flip(0), images)
    for draw in ((5, 3), (6, 2), None):
        assert not torch.equal(train.take(rows, draw).images, images)
    assert torch.equal(train.take(rows, None).images, again.take(rows, None).images)
    assert not torch.equal(train.masks([3]), train.masks([3 + len(train.ink)])), "the same digit elsewhere"


def test_photographs_are_disjoint_and_fit(data: Composites) -> None:
    with pytest.raises(UserError, match="coffee is also in data.train"):
        Composites(held_out=["coffee"]).open(SHAPE)
    assert isinstance(data.open(Shape(1, 20, 28)).held_out.backgrounds, InMemory)
    assert data.open(Shape(1, 20, 28)).train.take([0], (0, 0)).images.shape == (1, 1, 20, 28)


@pytest.mark.parametrize(
    ("override", "complaint"),
    {
        "data.smallest=0.95": "smallest is 0.95 and must not be more than largest, 0.9",
        "data.largest=1.2": "data.largest: .*less than or equal to 1",
        "data.dim=1": "data.dim: .*less than 1",
        "data.crops=0": "data.crops: .*greater than 0",
        "data.smalest=0.5": 'unknown key "data.smalest".*Did you mean "smallest"',
    }.items(),
)
def test_options_out_of_bounds_are_named(override: str, complaint: str) -> None:
    with pytest.raises(UserError, match=f"(?s){complaint}"):
        recipes.load(recipes.find("classify_composites"), [override])
