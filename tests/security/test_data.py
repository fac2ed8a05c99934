"""Data from someone else: pictures and texts that are none, or more than they seem."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from runtime.data.folder import opened
from runtime.network import TextShape
from runtime.recipe.schema import SOURCES
from runtime.storage import untrusted
from tests.security.bounded import outcome


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side: int, *further: bytes) -> bytes:
    """A black square of one bit a pixel, whose file is a thousandth of what it unpacks to."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    content = zlib.compress(bytes((side // 8 + 1) * side))
    parts = [chunk(b"IHDR", header), *further, chunk(b"IDAT", content), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def claims(side: int) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def read(words: Sequence[str]) -> None:
    opened(Path(words[0]))


PICTURES: dict[str, Callable[[Path], object]] = {
    "bomb": lambda path: path.write_bytes(png(20_000)),
    "large": lambda path: path.write_bytes(png(10_000)),  # of which Pillow by itself would only warn
    "claims": lambda path: path.write_bytes(claims(2**31 - 1)),
    "text bomb": lambda path: path.write_bytes(png(8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8))))),
    "junk": lambda path: path.write_bytes(b"junk"),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(png(800)[:60]),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "gif": lambda path: Image.new("P", (9, 9)).save(path, format="GIF"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(kind: str, tmp_path: Path) -> None:
    PICTURES[kind](tmp_path / "picture.png")
    outcome(read, tmp_path / "picture.png").refused("picture.png")


def test_no_program_is_called_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow gives PostScript to Ghostscript, whatever the file is called."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/marker\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "picture.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    outcome(read, tmp_path / "picture.png").refused("not a readable picture")
    assert not (tmp_path / "marker").exists()
    with pytest.raises(OSError), Image.open(tmp_path / "picture.png") as picture:  # so it would have been called
        picture.load()
    assert (tmp_path / "marker").exists()


def test_ordinary_pictures_are_read(tmp_path: Path) -> None:
    for ending, kind in ((".png", "PNG"), (".jpeg", "PNG"), (".jpg", "JPEG"), (".bmp", "BMP"), (".webp", "WEBP")):
        Image.new("RGB", (9, 7), (255, 0, 0)).save(tmp_path / f"picture{ending}", format=kind)
        assert opened(tmp_path / f"picture{ending}").size == (9, 7)


def text(words: Sequence[str]) -> None:
    SOURCES["text"](file=Path(words[0])).open(TextShape(16, 256))


def test_texts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "bytes.txt").write_bytes(b"\xff" * 1000)
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(untrusted.memory() // 16 + 1)
    for name, says in {
        "pipe.txt": "is a pipe or a device", "/dev/zero": "is a pipe or a device", ".": "Is a directory",
        "bytes.txt": "it is not UTF-8", "large.txt": "are read", "absent.txt": "No such file",
    }.items():  # fmt: skip
        outcome(text, tmp_path / name).refused(says)
