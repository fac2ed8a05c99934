"""Faulty data: pictures that cannot be read, pictures of extreme size, processes that die."""

from __future__ import annotations

import copy
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from runtime import train
from runtime.data.source import Batch, Images, InMemory, Splits
from runtime.errors import UserError
from runtime.images.augment import EDGE, Preparation, centre
from runtime.network import Shape
from runtime.reading.readable import Readable
from runtime.recipe.schema import SOURCES
from runtime.storage import checkpoint
from runtime.training.sampler import Batches, explained, stream
from tests.runtime.conftest import SPECS, TINY

RGB = Shape(3, 8, 8)
COUNT = 5
BROKEN = 3  # number of class b, so index 8


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of five pictures, each of one grey, its index; number 3 of the second is cut off."""
    for split in ("train", "val"):
        for label, kind in enumerate("ab"):
            place = tmp_path / split / kind
            place.mkdir(parents=True)
            for number in range(COUNT):
                grey(label * COUNT + number).save(place / f"{number}.png")
    cut_off(tmp_path / "train" / "b" / f"{BROKEN}.png")
    return tmp_path


def grey(value: int) -> Image.Image:
    return Image.fromarray(np.full((16, 12, 3), value, np.uint8))


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:40])


def greys(batch: Batch) -> list[int]:
    return ((batch.images[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def opened(folder: Path, **options: str) -> Images:
    return SOURCES["folder"](path=folder, **options).open(RGB).train


def test_an_error_by_default_and_the_file_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"train/b/3.png: not a readable picture: .*data.unreadable=skip"):
        opened(folder).take(range(10), None)


def test_the_next_of_the_class_takes_the_place(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = opened(folder, unreadable="skip")
    for draw in (None, (0, 0), (0, 1)):
        batch = images.take(range(10), draw)
        assert greys(batch) == [0, 1, 2, 3, 4, 5, 6, 7, 9, 9]
        assert batch.labels.tolist() == [0] * 5 + [1] * 5
    cut_off(folder / "train" / "b" / "4.png")
    images = opened(folder, unreadable="skip")
    assert greys(images.take([8, 9], None)) == [5, 5], "past the last one the first follows"
    said = capfd.readouterr().err.splitlines()
    assert [line.partition(": not")[0] for line in said] == [
        f"skipped: {folder}/train/b/{number}.png" for number in (3, 3, 4)
    ]


def test_each_file_is_named_once_whatever_the_processes(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = []
    for workers in (0, 2):
        images = opened(folder, unreadable="skip")
        found.append([greys(batch) for batch in stream(Batches(images, 5, 1, 0), 0, 12, workers, False)])
        assert capfd.readouterr().err.count("skipped: ") == 1  # 12 batches meet it
    assert found[0] == found[1]


def test_two_processes_that_meet_a_file_at_once_name_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    """As where both have begun to read it before either has said so: only what is shared is the same."""
    one = Readable("skip", 5)
    other = copy.copy(one)
    other.said = set()
    for process in (one, other):
        process.remember(3, "b/3.png: not a readable picture: cut off; repair it")
    assert capsys.readouterr().err == "skipped: b/3.png: not a readable picture: cut off\n"


def test_a_class_without_a_readable_picture(folder: Path) -> None:
    for file in (folder / "train" / "a").iterdir():
        file.write_bytes(b"")
    images = opened(folder, unreadable="skip")
    for _ in range(2):
        with pytest.raises(UserError, match="no picture can be read that would take the place"):
            images.take([0], None)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_a_set(streaming: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The next row takes the place, with its own class, also beyond the share that is asked for."""
    (tmp_path / "set").mkdir()
    for number in range(6):
        grey(number).save(tmp_path / f"{number}.png")
    content = [{"bytes": (tmp_path / f"{number}.png").read_bytes(), "path": None} for number in range(6)]
    content[3] = {"bytes": content[3]["bytes"][:40], "path": None}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict({"image": content, "label": list(range(6))}, features=features)
    datasets.DatasetDict(train=rows, validation=rows).save_to_disk(tmp_path / "set")
    counts = {"streaming": True, "samples": 5, "held_out_samples": 5} if streaming else {}
    options = {"path": str(tmp_path / "set"), "classes": 6, **counts}
    with pytest.raises(
        UserError, match=f"set: {'example' if streaming else 'row'} 3: not a readable picture: not of a kind"
    ):
        SOURCES["hub"](**options).open(RGB).train.take(range(5), None)
    images = SOURCES["hub"](**options, unreadable="skip").open(RGB).train
    first, second = images.take([2, 3], None), images.take([4], None)
    assert greys(first) == first.labels.tolist() == [2, 4] and greys(second) == [4]
    assert greys(images.take([3], None)) == [4]
    assert capfd.readouterr().err.count("skipped: ") == 1


# ---- extreme sizes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(30_000, 1), (1, 30_000), (1, 1), (5000, 3), (2, 2)])
def test_very_long_and_very_small_pictures(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, (50, 100, 150))
    for generator in (None, np.random.default_rng(0)):
        made = Preparation(scale=(0.08, 1)).tensor(picture, Shape(3, 224, 224), generator)
        assert made.shape == (3, 224, 224)
        assert torch.allclose(made[:, 100, 100], torch.tensor([50, 100, 150]) / 127.5 - 1, atol=0.01)


@pytest.mark.parametrize("size", [(2000, 100), (100, 2000)])
def test_no_crop_squeezes_a_long_picture(size: tuple[int, int]) -> None:
    """As in torchvision; before, every crop of such a picture was the whole of it."""
    picture, generator = Image.new("RGB", size), np.random.default_rng(0)
    for _ in range(200):
        left, top, right, bottom = Preparation(scale=(0.08, 1)).random_box(picture, generator)
        assert 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
        assert 0.74 < (right - left) / (bottom - top) < 1.35


def test_what_is_cut_off_before_was_outside_the_crop() -> None:
    ramp = np.linspace(0, 255, 1600)[None, :, None].repeat(40, 0).repeat(3, 2).astype(np.uint8)
    whole = Image.fromarray(ramp)
    width = round(1600 * 8 / 40 * EDGE)
    resized = whole.resize((width, round(8 * EDGE)), Image.Resampling.BICUBIC)
    left = (width - 8) // 2
    expected = np.asarray(resized.crop((left, 0, left + 8, 8))).astype(int)
    assert np.abs(np.asarray(centre(whole, RGB)).astype(int) - expected).max() <= 2


def test_a_picture_that_would_fill_the_memory_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90)  # the pictures have 192, more than twice as many
    with pytest.raises(UserError, match="a/0.png: not a readable picture: Image size .192 pixels. exceeds"):
        opened(folder).take([0], None)


# ---- processes that die ----------------------------------------------------------------------------------------------


class Deadly(InMemory):
    """Ends the process that reads image number 7."""

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        if 7 in indices and draw:
            os.kill(os.getpid(), signal.SIGKILL) if draw[0] else os._exit(3)
        return super().take(indices, draw)


DEADLY = Deadly(torch.rand(8, 1, 8, 8), torch.arange(8) % 10)


@pytest.mark.parametrize("seed", [0, 1], ids=["exit", "killed"])
def test_a_process_that_dies_is_explained(seed: int) -> None:
    reason = "(exited unexpectedly|killed by signal: Killed)"  # by what torch notices first
    with pytest.raises(
        UserError, match=f"a process that loads data died: .*{reason}.*fewer workers.*--resume"
    ) as error:
        list(stream(Batches(DEADLY, 4, 1, seed), 0, 20, 1, False))
    assert "\n" not in str(error.value)


def test_a_death_that_shows_in_the_middle_of_a_step_is_explained() -> None:
    """torch raises it from the handler of a signal, wherever the main thread is."""
    batches = Batches(DEADLY, 2, 1, 0)
    with pytest.raises(UserError, match="a process that loads data died"), explained():
        loaded = stream(batches, 0, 40, 2, False)
        next(loaded)
        patience = time.monotonic() + 30
        while time.monotonic() < patience:  # stands for the network's work
            time.sleep(0.01)


def test_a_death_that_shows_while_a_file_is_written_is_explained(tmp_path: Path) -> None:
    def dies(file: Path) -> None:
        file.write_text("half")
        raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly with exit code 1. Details are lost.")

    (tmp_path / "x").write_text("whole")
    with pytest.raises(UserError, match="a process that loads data died: .*exit code 1"), explained():
        checkpoint.replace_file(tmp_path / "x", dies)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["whole"]


def test_other_errors_pass() -> None:
    with pytest.raises(UserError, match="batch 9"), explained():
        raise UserError("batch 9")
    with pytest.raises(RuntimeError, match="out of memory"), explained():
        raise RuntimeError("out of memory")


def test_a_run_keeps_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on from it, with other workers or none."""
    held_out = InMemory(DEADLY.images, DEADLY.labels)

    class LateDeath(InMemory):
        def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
            if draw and draw[1] >= 3:  # the fourth epoch, from step 6 on
                os._exit(1)
            return super().take(indices, draw)

    late = LateDeath(DEADLY.images, DEADLY.labels)
    monkeypatch.setattr(SOURCES["digits"], "open", lambda self, shape: Splits(late, held_out, 10))
    words = [str(SPECS / "crate.crate"), "--recipe", "classify_digits", "--out", str(tmp_path / "run"), *TINY]
    words += ["data.enlarge=1", "sizes.image=8", "sizes.patch=2", "batch=4", "epochs=null", "steps=12", "ema=null"]
    with pytest.raises(UserError, match="--resume goes on from the last checkpoint"):
        train.main([*words, "workers=1", "prefetch=1"])
    kept, _ = checkpoint.load_state(tmp_path / "run" / "checkpoint.pt")  # the death may come between two renamings
    assert kept["step"] in (3, 6)
    monkeypatch.setattr(SOURCES["digits"], "open", lambda self, shape: Splits(held_out, held_out, 10))
    train.main(["--resume", str(tmp_path / "run")])
    assert checkpoint.read_state(tmp_path / "run" / "checkpoint.pt")["step"] == 12
