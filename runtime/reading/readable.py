"""Pictures that cannot be read: an error that names them, or the next one in their place."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from runtime.errors import UserError
from runtime.storage import untrusted

Policy = Literal["error", "skip"]
Item = TypeVar("Item")
SIXTEEN = ("PPM", "PNG")  # formats whose numbers have 16 bits where Pillow has 32
TRANSPARENT = ("LA", "PA", "RGBA", "RGBa")


def without_interpreters() -> None:
    """Let Pillow forget PostScript, which it hands to Ghostscript, a program, whatever a file is called."""
    Image.init()
    Image.OPEN.pop("EPS", None)
    Image.ID[:] = [kind for kind in Image.ID if kind != "EPS"]


without_interpreters()


class Unreadable(UserError):
    """A picture that is missing, cut off, none at all, or larger than PIL decodes (179 million pixels)."""


def undecoded(file: Path) -> Image.Image:
    """A picture of which the header is read; raises UserError for a pipe or a device, where reading would wait."""
    if file.exists() and not file.is_dir():
        untrusted.require_file(file)
    return Image.open(file)


def load(picture: Image.Image) -> Image.Image:
    """Decode a picture, as viewers show it: upright, with 8 bits, and without transparency.

    Raises what Pillow's decoders raise, also where its colours are none that it converts (LAB), and ValueError where
    nobody says how bright its numbers are.
    """
    picture.load()
    upright(picture)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in SIXTEEN):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))  # Pillow would cut off what is above 255
    if picture.mode in ("I", "F"):
        raise ValueError("it has 32 bits per pixel, and nothing says how much is white; save it with 8 or 16")
    if picture.mode in TRANSPARENT or "transparency" in picture.info:
        return on_black(picture)
    corner = picture.crop((0, 0, 1, 1))
    for mode in ("L", "RGB"):
        corner.convert(mode)
    return picture


def upright(picture: Image.Image) -> None:
    """Turn it as its camera says, which the library `datasets` does too; what is no EXIF says nothing."""
    try:
        ImageOps.exif_transpose(picture, in_place=True)
    except MemoryError:
        raise
    except Exception:  # arbitrary bytes make the reader of EXIF fail in arbitrary ways, and the picture is whole
        return


def on_black(picture: Image.Image) -> Image.Image:
    """What is transparent becomes black, which most programs write beneath it anyway.

    So this is what Pillow's conversion and torchvision give, except where a colour is hidden: white ink stays visible.
    """
    colours = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", colours.size, "black"), colours).convert("RGB")


def decoded(place: object, opened: Callable[[], Image.Image]) -> Image.Image:
    """The picture, decoded as a whole; raises Unreadable, naming its place."""
    try:
        return load(opened())
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make decoders fail in arbitrary ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "not of a kind that PIL knows" if isinstance(error, UnidentifiedImageError) else reason
        advice = "repair or remove it, or pass over such pictures with data.unreadable=skip"
        raise Unreadable(f"{place}: not a readable picture: {reason}; {advice}") from None


class Readable:
    """Reads items by number; with the policy `skip` the next number's item takes the place of an unreadable one.

    Each is named once on stderr: what is broken is remembered in memory that the processes which load data share. Of a
    stream, whose items have no lasting numbers, each process remembers what it has said itself.
    """

    def __init__(self, policy: Policy, count: int | None) -> None:
        self.policy = policy
        self.said: set[str] = set()  # of a stream
        self.broken = torch.zeros(count or 0, dtype=torch.bool)
        self.lock: AbstractContextManager[object] = nullcontext()
        if policy == "skip" and count:
            self.broken.share_memory_()
            self.lock = multiprocessing.Lock()

    def first(self, numbers: Iterable[int], read: Callable[[int], Item]) -> Item:
        """The item of the first of `numbers` that can be read; raises UserError where there is none."""
        message = "nothing to read"
        for number in numbers:
            if len(self.broken) and self.broken[number]:
                continue
            try:
                return read(number)
            except Unreadable as error:
                if self.policy == "error":
                    raise
                self.remember(number, message := str(error))
        raise UserError(f"no picture can be read that would take the place of an unreadable one; the last: {message}")

    def remember(self, number: int, message: str) -> None:
        with self.lock:
            known = bool(len(self.broken)) and bool(self.broken[number])
            if len(self.broken):
                self.broken[number] = True
        if not known and message not in self.said:
            self.said.add(message)
            print(f"skipped: {message.partition(';')[0]}", file=sys.stderr, flush=True)
