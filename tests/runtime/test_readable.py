"""Pictures come as viewers show them, whether a user names them or a data set holds them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.data.hub import Hub
from runtime.errors import UserError
from runtime.predicting.reading import opened
from runtime.reading.readable import decoded, undecoded

GREY = np.linspace(0, 255, 8 * 6).round().astype(np.uint8).reshape(8, 6)  # higher than wide


def read(file: Path) -> list[np.ndarray]:
    """The picture as one that a user names, from a folder of pictures, and from a set of `datasets`, all in grey."""
    row = {"image": {"bytes": file.read_bytes(), "path": None}}
    pictures = opened(file), decoded(file, lambda: undecoded(file)), Hub(path="set").picture(row, 0)
    return [np.asarray(picture.convert("L")) for picture in pictures]


def saved(folder: Path, picture: Image.Image, name: str = "a.png", **options: object) -> Path:
    picture.save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bits", [8, 16])
def test_pictures_are_upright(orientation: int, bits: int, tmp_path: Path) -> None:
    turned = {1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T, 6: GREY.T[::-1],
              7: GREY.T[::-1, ::-1], 8: GREY.T[:, ::-1]}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = np.ascontiguousarray(turned).astype(np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 257)
    for found in read(saved(tmp_path, Image.fromarray(values), exif=exif)):
        assert np.array_equal(found, GREY)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_says_nothing(tmp_path: Path) -> None:
    file = saved(tmp_path, Image.fromarray(GREY), exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert np.array_equal(np.asarray(opened(file)), GREY)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    for name in ("a.png", "a.pgm", "a.tiff"):
        for found in read(saved(tmp_path, Image.fromarray(GREY.astype(np.uint16) * 257), name)):
            assert np.array_equal(found, GREY), name


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_thirty_two_bits_are_refused(kind: type, tmp_path: Path) -> None:
    file = saved(tmp_path, Image.fromarray(GREY.astype(kind)), "a.tiff")
    for reading in (lambda: opened(file), lambda: decoded(file, lambda: undecoded(file))):
        with pytest.raises(UserError, match=r"a\.tiff: not a readable picture: it has 32 bits per pixel.*with 8 or 16"):
            reading()


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    """White ink, or the same in a palette: the drawing is in what is not transparent."""
    white = np.full_like(GREY, 255)
    for layers in ((white, GREY), (white, white, white, GREY)):
        for found in read(saved(tmp_path, Image.fromarray(np.stack(layers, axis=-1)))):
            assert np.abs(found.astype(int) - GREY).max() <= 1
    palette = Image.fromarray((GREY > 100).astype(np.uint8), mode="P")
    palette.putpalette([255] * 6)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", transparency=0)
    (tmp_path / "p.png").write_bytes(buffer.getvalue())
    for found in read(tmp_path / "p.png"):
        assert np.array_equal(found, np.where(GREY > 100, 255, 0))
