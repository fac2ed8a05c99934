"""Data sources and the sampler: shapes, ranges, and randomness that depends on the place only."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runtime.data.source import DataSource, InMemory
from runtime.errors import UserError
from runtime.network import Shape
from runtime.recipe.schema import SOURCES
from runtime.training.sampler import Batches, in_order, stream

RGB = Shape(3, 16, 16)
COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


def picture(colour: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A horizontal ramp of a colour, so that crops and mirror images differ."""
    ramp = np.linspace(0, 1, size[0])[None, :, None] * np.array(COLOURS[colour])
    return Image.fromarray(np.broadcast_to(ramp, (size[1], size[0], 3)).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for colour in COLOURS:
            place = tmp_path / split / colour
            place.mkdir(parents=True)
            for number in range(3):
                picture(colour).save(place / f"{number}.png")
    return tmp_path


@pytest.fixture(params=sorted(name for name, source in SOURCES.items() if source.reads is Shape))
def source(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[DataSource, Shape]:
    options = {"folder": {"path": folder}, "hub": {"path": str(folder)}, "photographs": {"crops": 12}}
    shape = Shape(1, 8, 8) if request.param == "digits" else RGB
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder.parent / "cache")
    return SOURCES[request.param](**options.get(request.param, {})), shape


def test_images_have_the_shape_and_range_of_the_network(source: tuple[DataSource, Shape]) -> None:
    data, shape = source
    splits = data.open(shape)
    for images in (splits.train, splits.held_out):
        batch = images.take([0, len(images) - 1], (0, 0))
        assert batch.images.shape == (2, shape.channels, shape.height, shape.width)
        assert batch.images.dtype == torch.float32
        assert batch.images.min() >= -1 and batch.images.max() <= 1
        displayed = data.displayed(batch.images)
        assert displayed.min() >= 0 and displayed.max() <= 1
        if splits.classes:
            assert batch.labels.dtype == torch.int64 and batch.labels.max() < splits.classes


def test_images_depend_on_seed_epoch_and_index_only(source: tuple[DataSource, Shape]) -> None:
    data, shape = source
    train = data.open(shape).train
    alone = train.take([3], (5, 2)).images
    assert torch.equal(train.take([0, 3], (5, 2)).images[1:], alone)
    assert torch.equal(data.open(shape).train.take([3], (5, 2)).images, alone)
    if not isinstance(train, InMemory):
        assert not torch.equal(train.take([3], (5, 3)).images, alone)
        assert not torch.equal(train.take([3], (6, 2)).images, alone)


def test_splits_can_be_sent_to_other_processes(source: tuple[DataSource, Shape]) -> None:
    """As loading processes that are not forked need it."""
    data, shape = source
    train = data.open(shape).train
    sent = pickle.loads(pickle.dumps(train))
    assert torch.equal(sent.take([1], (0, 3)).images, train.take([1], (0, 3)).images)


def test_held_out_images_never_vary(source: tuple[DataSource, Shape]) -> None:
    data, shape = source
    first, second = (list(in_order(data.open(shape).held_out, 4)) for _ in range(2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("limit", "wanted"), [(4, [0, 2, 5, 7]), (10, list(range(10))), (99, list(range(10)))])
def test_a_limited_part_is_taken_from_all_over(limit: int, wanted: list[int]) -> None:
    """A folder begins with all images of its first class."""
    images = InMemory(torch.arange(10.0).view(10, 1, 1, 1), torch.arange(10))
    assert torch.cat([batch.labels for batch in in_order(images, 3, limit)]).tolist() == wanted


def test_digits_are_split_once_and_evenly() -> None:
    splits = SOURCES["digits"]().open(Shape(1, 8, 8))
    assert (len(splits.train), len(splits.held_out)) == (1437, 360)
    counts = torch.bincount(splits.held_out.labels)
    assert counts.min() >= 34 and counts.max() <= 37


def test_photographs_are_held_out_whole() -> None:
    options = SOURCES["photographs"]()
    assert not set(options.train) & set(options.held_out)
    with pytest.raises(UserError, match="coffee is also in data.train"):
        SOURCES["photographs"](held_out=["coffee"]).open(RGB)
    with pytest.raises(UserError, match="none is as large as 3 x 900 x 900"):
        options.open(Shape(3, 900, 900))


def test_wrong_shapes_and_folders(folder: Path) -> None:
    with pytest.raises(UserError, match="images of 1 x 8 x 8, the network reads 3 x 16 x 16"):
        SOURCES["digits"]().open(RGB)
    with pytest.raises(UserError, match="no such folder of pictures"):
        SOURCES["folder"](path=folder / "absent").open(RGB)
    (folder / "empty" / "red").mkdir(parents=True)
    with pytest.raises(UserError, match="no pictures"):
        SOURCES["folder"](path=folder, held_out="empty").open(RGB)
    (folder / "val" / "green").mkdir()
    with pytest.raises(UserError, match="class green does not occur in the training split"):
        SOURCES["folder"](path=folder).open(RGB)


def test_hidden_folders_are_no_classes(folder: Path) -> None:
    for part in ("train", "val"):
        (folder / part / ".ipynb_checkpoints").mkdir()
    assert SOURCES["folder"](path=folder).open(RGB).classes == len(SOURCES["folder"](path=folder).class_names()) == 2


def test_statistics_are_one_for_all_channels_or_one_for_each(folder: Path) -> None:
    splits = SOURCES["folder"](path=folder, preparation={"mean": [0.5, 0.5]}).open(RGB)
    with pytest.raises(UserError, match="preparation.mean: 2 values, but pictures have 3 channels"):
        splits.train.take([0], None)


def test_an_unreadable_picture_is_named_even_from_a_worker(folder: Path) -> None:
    broken = folder / "train" / "red" / "0.png"
    broken.write_bytes(b"no picture")
    images = SOURCES["folder"](path=folder).open(RGB).train
    for workers in (0, 1):
        with pytest.raises(UserError, match="not a readable picture") as error:
            list(stream(Batches(images, batch=6, parts=1, seed=0), 0, 1, workers, pin=False))
        shown = str(error.value)
        assert "data.unreadable=skip" in shown and str(broken) in shown and "Traceback" not in shown


@pytest.fixture
def numbers() -> InMemory:
    return InMemory(torch.arange(23.0).reshape(-1, 1, 1, 1), torch.arange(23))


def test_an_epoch_visits_every_image_at_most_once(numbers: InMemory) -> None:
    batches = Batches(numbers, batch=4, parts=2, seed=1)
    assert batches.steps_per_epoch == 5
    for epoch in range(3):
        seen = torch.cat([batches[number].labels for number in range(epoch * 10, (epoch + 1) * 10)])
        assert len(seen.unique()) == len(seen) == 20
    assert not torch.equal(batches[0].labels, batches[10].labels)


def test_batches_are_a_function_of_the_step(numbers: InMemory) -> None:
    whole = [batch.labels for batch in stream(Batches(numbers, 4, 2, 7), 0, 9, 0, False)]
    later = [batch.labels for batch in stream(Batches(numbers, 4, 2, 7), 6, 9, 1, False)]
    assert all(torch.equal(a, b) for a, b in zip(whole[12:], later, strict=True))
    joined = [batch.labels for batch in stream(Batches(numbers, 4, 1, 7), 0, 9, 0, False)]
    assert torch.equal(torch.cat(joined), torch.cat(whole)), "shares of a batch are the batch"


def test_a_batch_larger_than_the_data_is_refused(numbers: InMemory) -> None:
    with pytest.raises(UserError, match="batch 24 is larger than the training data, 23 in all"):
        Batches(numbers, batch=24, parts=1, seed=0)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_batches_do_not_depend_on_the_workers(folder: Path, parts: int) -> None:
    """Nor on the parts; augmented, over several epochs."""
    images = SOURCES["folder"](path=folder).open(RGB).train
    expected = list(stream(Batches(images, 4, 1, 5), 0, 4, 0, False))
    for workers in (0, 1, 3):
        found = list(stream(Batches(images, 4, parts, 5), 0, 4, workers, False, prefetch=1))
        assert torch.equal(torch.cat([b.images for b in found]), torch.cat([b.images for b in expected]))
        assert torch.equal(torch.cat([b.labels for b in found]), torch.cat([b.labels for b in expected]))


def test_a_process_takes_its_parts_of_every_step(numbers: InMemory) -> None:
    """As one of two processes that accumulate two shares each."""
    whole = [batch.labels for batch in stream(Batches(numbers, 8, 1, 7), 0, 3, 0, False)]
    for rank in range(2):
        own = stream(Batches(numbers, 8, 4, 7), 0, 3, 1, False, own=range(2 * rank, 2 * rank + 2))
        labels = torch.cat([batch.labels for batch in own]).view(3, 4)
        assert torch.equal(labels, torch.stack(whole)[:, 4 * rank : 4 * rank + 4])
