"""The folder of pictures: as ImageNet is kept, disjoint, a function of the seed, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime import make_folder
from runtime.data.photographs import pixels
from runtime.errors import UserError
from runtime.make_folder import PARTS, Crop
from runtime.network import Shape
from runtime.recipe.schema import SOURCES


def made(path: Path, *words: str) -> Path:
    make_folder.main([str(path), "--train", "3", "--val", "2", "--size", "16", *words])
    return path


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*.png"))}


def test_a_folder_that_can_be_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path / "new" / "out")
    assert "11 classes, 3 training and 2 held-out pictures each" in capsys.readouterr().out
    splits = SOURCES["folder"](path=folder).open(Shape(3, 16, 16))
    assert (len(splits.train), len(splits.held_out), splits.classes) == (33, 22, 11)
    with Image.open(folder / "train" / "astronaut" / "00000.png") as picture:
        assert picture.size == (16, 16) and picture.mode == "RGB"
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["out"], "nothing is left beside it"


def test_one_seed_one_folder(tmp_path: Path) -> None:
    first, again, other = (contents(made(tmp_path / n, "--seed", s)) for n, s in (("a", "1"), ("b", "1"), ("c", "2")))
    assert first == again and first.keys() == other.keys()
    assert len(set(first.values()) | set(other.values())) == len(first) + len(other), "no picture twice"


@pytest.mark.parametrize("name", ["coins", "motorcycle", "brick"])
def test_no_pixel_is_in_both_parts(name: str) -> None:
    photograph = Image.fromarray(pixels(name))
    boxes = {part: np.array([Crop(photograph, name, part, n).box(0) for n in range(400)]) for part in PARTS}
    gap = boxes["val"][:, 0].min() - boxes["train"][:, 2].max()
    assert gap >= 0.045 * photograph.width
    for left, top, right, bottom in np.concatenate(list(boxes.values())):
        assert 0 <= left < right <= photograph.width and 0 <= top < bottom <= photograph.height
        assert right - left == bottom - top >= 53, "square, and larger than the largest picture"
    assert boxes["train"][:, 0].min() < 0.1 * photograph.width and boxes["val"][:, 2].max() > 0.9 * photograph.width


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    with pytest.raises(UserError, match="full exists and is not empty"):
        made(tmp_path / "full")
    with pytest.raises(UserError, match="mine exists and is not empty"):
        made(tmp_path / "full" / "mine")
    assert (tmp_path / "full" / "mine").read_text() == "kept"
    (tmp_path / "empty").mkdir()
    assert len(contents(made(tmp_path / "empty"))) == 55


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Crop.picture

    def fails(self: Crop, size: int, seed: int) -> Image.Image:
        if self.number == 1:
            raise OSError("disk full")
        return picture(self, size, seed)

    monkeypatch.setattr(Crop, "picture", fails)
    with pytest.raises(OSError, match="disk full"):
        made(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "54"], "--size is 54 and must be from 8 to 53, so that no crop is enlarged"),
        (["--size", "7"], "--size is 7"),
        (["--train", "0"], "--train is 0: every class needs at least one picture"),
        (["--val", "-1"], "--val is -1"),
        (["--seed", "-1"], "--seed is -1: a whole number from 0 on is needed"),
    ],
)
def test_wrong_wishes(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path / "out", *words)
