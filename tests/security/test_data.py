"""Data from someone else: pictures and texts that are none, or more than they seem."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from runtime.network import TextShape
from runtime.predicting.reading import opened
from runtime.reading.readable import decoded, undecoded
from runtime.recipe.schema import SOURCES
from runtime.storage import untrusted
from runtime.text import subwords
from tests.security.bounded import outcome

ROOT = Path(__file__).parents[2]


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


def one(words: Sequence[str]) -> None:
    """As `runtime.predict` reads a picture."""
    opened(Path(words[0]))


def of_a_folder(words: Sequence[str]) -> None:
    """As data sources do."""
    decoded(words[0], partial(undecoded, Path(words[0])))


PICTURES: dict[str, Callable[[Path], object]] = {
    "bomb": lambda path: path.write_bytes(png(20_000)),
    "claims": lambda path: path.write_bytes(claims(2**31 - 1)),
    "text bomb": lambda path: path.write_bytes(png(8, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8))))),
    "junk": lambda path: path.write_bytes(b"junk"),
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(png(800)[:60]),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures(kind: str, tmp_path: Path) -> None:
    PICTURES[kind](tmp_path / "picture.png")
    for read in (one, of_a_folder):
        outcome(read, tmp_path / "picture.png").refused("picture.png")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
PILLOW = "import sys; from PIL import Image; Image.open(sys.argv[1]).load()"
OURS = "import runtime.reading.readable; import sys; from PIL import Image; Image.open(sys.argv[1]).load()"


@pytest.mark.parametrize(("code", "called"), [(PILLOW, True), (OURS, False)])
def test_no_program_is_called_for_a_picture(code: str, called: bool, tmp_path: Path) -> None:
    """Pillow gives PostScript to Ghostscript, whatever the file is called; here it knows no PostScript."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/marker\n")
    (tmp_path / "gs").chmod(0o755)
    (tmp_path / "picture.png").write_bytes(POSTSCRIPT)
    surroundings = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [sys.executable, "-c", code, str(tmp_path / "picture.png")]
    assert subprocess.run(words, env=surroundings, cwd=ROOT, capture_output=True).returncode != 0
    assert (tmp_path / "marker").exists() == called


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


def tokens(words: Sequence[str]) -> None:
    subwords.read(Path(words[0]), "<|endoftext|>")


def test_tokenizers(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "nested.json").write_text("[" * 100_000)
    (tmp_path / "other.json").write_text('{"version": "1.0", "model": {"type": "os.system"}}')
    (tmp_path / "bytes.json").write_bytes(b"\xff" * 100)
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(3 * 10**9)
    for name, says in {
        "pipe.json": "is a pipe or a device",
        "nested.json": "not a tokenizer.json",
        "bytes.json": "not a tokenizer.json",
        "other.json": "not a tokenizer.json",
        "large.json": "at most 100,000,000 are read",
        ".": "Is a directory",
    }.items():
        outcome(tokens, tmp_path / name).refused(says)
