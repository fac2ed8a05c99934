"""Sets of the library `datasets`, written here by the library itself: local files of all kinds, and streams."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from runtime import seeds, train
from runtime.data.source import Batch, DataSource, Splits
from runtime.errors import Stopped, UserError
from runtime.network import Shape, TextShape
from runtime.reading.stream import Streamed
from runtime.recipe.schema import SOURCES
from runtime.training.sampler import Batches, in_order, stream
from tests.runtime.conftest import SPECS, TINY, Train
from tests.runtime.test_resume import assert_same_end, stop_after

datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN = 0  # else 5 s after every shuffled epoch, and as Python ends

RGB = Shape(3, 8, 8)
COUNT = 24
PLAIN = {"preparation": {"scale": [1, 1], "mirror": False}}


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def rows(first: int, count: int) -> datasets.Dataset:
    """Pictures of one grey, their number, with classes a and b in turn."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    pictures = [Image.fromarray(np.full((8, 8, 3), number, np.uint8)) for number in range(first, first + count)]
    labels = [number % 2 for number in range(first, first + count)]
    return datasets.Dataset.from_dict({"image": pictures, "label": labels}, features=features)


def write(kind: str, place: Path) -> dict[str, Any]:
    """A set of COUNT training pictures and 6 others; returns the options that read it."""
    parts = {"train": rows(0, COUNT), "validation": rows(100, 6)}
    if kind == "parquet":
        for name, part in parts.items():
            part.to_parquet(place / f"{name}.parquet")
        return {"path": str(place)}
    if kind == "files":
        for name, part in parts.items():
            part.to_parquet(place / f"{name}.bin")
        return {"path": "parquet", "data_files": {name: str(place / f"{name}.bin") for name in parts}}
    if kind == "saved":
        datasets.DatasetDict(parts).save_to_disk(place / "set")
        return {"path": str(place / "set")}
    for name, part in parts.items():
        for number, row in enumerate(part):
            folder = place / "pictures" / name / "ab"[row["label"]]
            folder.mkdir(parents=True, exist_ok=True)
            row["image"].save(folder / f"{number:03}.png")
    pictures = str(place / "pictures")
    return {"path": "imagefolder", "data_dir": pictures} if kind == "imagefolder" else {"path": pictures}


KINDS = ["parquet", "files", "saved", "imagefolder", "folder"]


def opened(options: dict[str, Any], **more: Any) -> Splits:
    return SOURCES["hub"](**options, **PLAIN, **more).open(RGB)


def greys(batch: Batch) -> list[int]:
    return ((batch.images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_sets(kind: str, place: Path) -> None:
    splits = opened(write(kind, place))
    assert (len(splits.train), len(splits.held_out), splits.classes) == (COUNT, 6, 2)
    batch = splits.train.take(range(COUNT), (0, 0))
    assert sorted(greys(batch)) == list(range(COUNT))
    assert [grey % 2 for grey in greys(batch)] == batch.labels.tolist()
    assert sorted(greys(splits.held_out.take(range(6), None))) == list(range(100, 106))


STREAMING = {"streaming": True, "samples": 20, "held_out_samples": 6, "shuffle_buffer": 5}


@pytest.mark.parametrize("kind", KINDS)
def test_streams_hold_the_same(kind: str, place: Path) -> None:
    splits = opened(write(kind, place), **STREAMING)
    assert (len(splits.train), len(splits.held_out), splits.classes) == (20, 6, 2)
    batch = splits.train.take(range(20), (0, 0))
    assert len(set(greys(batch))) == 20 and set(greys(batch)) <= set(range(COUNT))
    assert [grey % 2 for grey in greys(batch)] == batch.labels.tolist()
    if kind == "parquet":
        assert greys(batch) != sorted(greys(batch))
    first, second = (list(in_order(splits.held_out, 4)) for _ in range(2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, second, strict=True))
    assert sorted(grey for part in first for grey in greys(part)) == list(range(100, 106))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for a set alone: the library looks through all that lies in it."""
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


@pytest.fixture
def parquet(place: Path) -> dict[str, Any]:
    return write("parquet", place)


def test_a_streamed_epoch_is_the_shuffle_of_the_library(parquet: dict[str, Any]) -> None:
    splits = opened(parquet, **STREAMING)
    original = datasets.load_dataset(parquet["path"], streaming=True)["train"]
    for draw in ((0, 0), (0, 1), (3, 0)):
        seed = seeds.stream(*draw)
        expected = [np.asarray(row["image"])[0, 0, 0] for row in original.shuffle(seed=seed, buffer_size=5)]
        assert greys(splits.train.take(range(20), draw)) == expected[:20]


def orders(splits: Splits) -> list[list[int]]:
    return [greys(splits.train.take(range(20), draw)) for draw in ((0, 0), (0, 1), (1, 0), (1, 1))]


def test_the_order_of_a_stream_is_a_function_of_seed_and_epoch(parquet: dict[str, Any]) -> None:
    first, second = orders(opened(parquet, **STREAMING)), orders(opened(parquet, **STREAMING))
    assert first == second and len({tuple(order) for order in first}) == 4


def test_any_position_of_a_stream_can_be_asked_for(parquet: dict[str, Any]) -> None:
    train_split = opened(parquet, **STREAMING).train
    whole = greys(train_split.take(range(20), (0, 0)))
    assert greys(train_split.take([7, 3, 19], (0, 0))) == [whole[7], whole[3], whole[19]]
    between = greys(train_split.take([2], None)), greys(train_split.take([4], (0, 0)))
    assert between[1] == [whole[4]]
    copy = pickle.loads(pickle.dumps(train_split))
    assert greys(copy.take([5], (0, 0))) == [whole[5]]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_streamed_batches_do_not_depend_on_workers_and_parts(parquet: dict[str, Any], workers: int) -> None:
    varied = {**parquet, **STREAMING}
    expected = list(stream(Batches(SOURCES["hub"](**varied).open(RGB).train, 4, 1, 2), 0, 12, 0, False))
    split = SOURCES["hub"](**varied).open(RGB).train
    greys(split.take([3], (2, 0)))  # opened here before the workers are forked
    found = list(stream(Batches(split, 4, 2, 2), 0, 12, workers, False))
    later = list(stream(Batches(split, 4, 1, 2), 7, 12, workers, False))
    whole = torch.cat([batch.images for batch in expected])
    assert torch.equal(torch.cat([batch.images for batch in found]), whole)
    assert torch.equal(torch.cat([batch.images for batch in later]), whole[28:])


def test_what_a_stream_lacks(parquet: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="with data.streaming give data.held_out_samples"):
        opened(parquet, streaming=True, samples=4)
    with pytest.raises(UserError, match="data.samples is for data.streaming=true alone"):
        opened(parquet, samples=4)
    images = opened(parquet, **{**STREAMING, "samples": 30}).train
    with pytest.raises(UserError, match="the stream ends after 24 examples; make data.samples"):
        images.take(range(30), (0, 0))
    with pytest.raises(UserError, match="batch 32 is larger than the training data, 30 in all"):
        Batches(images, 32, 1, 0)


def test_what_is_missing_is_named(parquet: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match='no split "test"; known splits: train, validation'):
        opened(parquet, held_out="test")
    with pytest.raises(UserError, match='no column "labels"; known columns: image, label. Did you mean "label"?'):
        opened(parquet, label="labels")
    with pytest.raises(UserError, match="some/name: `datasets` cannot load it: .*Hub"):
        opened({"path": "some/name"})
    rows(0, 4).save_to_disk(tmp_path / "single")
    with pytest.raises(UserError, match='no split "validation"; known splits: train'):
        opened({"path": str(tmp_path / "single")})
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="pip install datasets"):
        opened(parquet)


def labelled(place: Path, train: list[Any], held_out: list[Any] | None = None) -> dict[str, Any]:
    """A set whose labels are plain values."""
    for name, labels in (("train", train), ("validation", train if held_out is None else held_out)):
        pictures = [Image.fromarray(np.zeros((8, 8), np.uint8))] * len(labels)
        datasets.Dataset.from_dict({"image": pictures, "label": labels}).to_parquet(place / f"{name}.parquet")
    return {"path": str(place)}


def test_labels_that_are_plain_numbers(place: Path) -> None:
    options = labelled(place, [0, 4, 2])
    assert opened(options).classes == 5 and opened(options, classes=7).classes == 7
    assert opened(options, **STREAMING).classes is None and opened(options, classes=7, **STREAMING).classes == 7
    with pytest.raises(UserError, match='row 1: "label" is 4, which is no class'):
        opened(options, classes=3).train.take([0, 1], None)
    without = opened(options, label=None)
    assert without.classes is None and without.train.take([0], None).labels is None


def test_classes_of_the_held_out_pictures_count_too(place: Path) -> None:
    assert opened(labelled(place, [0, 1, 2], [3, 5])).classes == 6


def test_labels_that_are_no_classes(place: Path) -> None:
    with pytest.raises(UserError, match='the classes in "label" are words'):
        opened(labelled(place, ["cat", "dog"]))


# ---- text ------------------------------------------------------------------------------------------------------------

DOCUMENTS = [f"document {number} {'word ' * (number % 5)}" for number in range(60)]


@pytest.fixture
def texts(place: Path) -> dict[str, Any]:
    for name, documents in (("train", DOCUMENTS), ("validation", DOCUMENTS[:9])):
        datasets.Dataset.from_dict({"text": documents, "other": [0] * len(documents)}).to_parquet(
            place / f"{name}.parquet"
        )
    return {"path": str(place)}


def text_source(options: dict[str, Any], **more: Any) -> DataSource:
    return SOURCES["hub_text"](**options, **more)


def read_back(batches: list[Batch]) -> bytes:
    return bytes(torch.cat([batch.inputs.flatten() for batch in batches]).tolist())


def test_text_of_a_set(texts: dict[str, Any]) -> None:
    splits = text_source(texts).open(TextShape(10, 256))
    whole = "\n\n\n".join(DOCUMENTS).encode()
    assert read_back(list(in_order(splits.train, 7))) == whole[: 10 * len(splits.train)]
    with pytest.raises(UserError, match='no column "txt"; known columns: other, text. Did you mean "text"?'):
        text_source(texts, text="txt").open(TextShape(10, 256))


def test_text_of_a_stream(texts: dict[str, Any]) -> None:
    source = text_source(texts, streaming=True, samples=40, held_out_samples=5, shuffle_buffer=7)
    splits = source.open(TextShape(10, 256))
    whole = "".join(document + "\n\n\n" for document in DOCUMENTS).encode()
    assert read_back([splits.train.take(range(40), None)]) == whole[:400]
    batch = splits.train.take(range(40), (0, 1))
    assert torch.equal(batch.inputs[:, 1:], batch.labels[:, :-1])
    assert torch.equal(batch.labels[:-1, -1], batch.inputs[1:, 0]), "windows stand side by side"
    other = splits.train.take(range(40), (0, 2))
    assert not torch.equal(batch.inputs, other.inputs)
    for workers in (0, 2):
        found = list(stream(Batches(splits.train, 8, 2, 0), 3, 12, workers, False))
        again = list(stream(Batches(source.open(TextShape(10, 256)).train, 8, 2, 0), 0, 12, 0, False))[6:]
        assert torch.equal(torch.cat([b.inputs for b in found]), torch.cat([b.inputs for b in again]))


def test_a_stream_has_no_vocabulary_of_its_own(texts: dict[str, Any]) -> None:
    options = {**texts, "streaming": True, "samples": 40, "held_out_samples": 5}
    for more in ({"tokens": "characters"}, {"tokens": "bpe", "vocabulary": 300}):
        with pytest.raises(UserError, match="no vocabulary can be made of a stream: give data.tokens=bytes"):
            text_source(options, **more).open(TextShape(10, 256))


def test_a_stream_of_byte_pairs(texts: dict[str, Any], tmp_path: Path) -> None:
    trained = text_source(texts, tokens="bpe", vocabulary=280)
    trained.keep(tmp_path)
    options = {"streaming": True, "samples": 20, "held_out_samples": 5, "tokens": "bpe"}
    source = text_source(texts, tokenizer=tmp_path / "tokenizer.json", **options)
    splits = source.open(TextShape(10, 280))
    assert isinstance(splits.train, Streamed)
    whole = trained.open(TextShape(10, 280)).train
    assert torch.equal(splits.train.take(range(20), None).inputs, whole.take(range(20), None).inputs)


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_a_streamed_run_resumes_exactly(parquet: dict[str, Any], tiny_run: Train, tmp_path: Path) -> None:
    words = ["data=hub", f"data.path={parquet['path']}", *(f"data.{k}={v}" for k, v in STREAMING.items())]
    words += ["sizes.image=8", "sizes.channels=3", "sizes.classes=2", "batch=6", "evaluate_batch=4", "workers=1"]
    straight = tiny_run("crate", *words, name="straight", steps=7)
    recipe = ["--recipe", "classify_digits", "--out", str(tmp_path / "halves"), *TINY, "epochs=null", "steps=7"]
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Stopped, match="SIGTERM"):
            train.main([str(SPECS / "crate.crate"), *recipe, *words])
    train.main(["--resume", str(tmp_path / "halves")])
    assert_same_end(straight, tmp_path / "halves")
