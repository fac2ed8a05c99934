"""A folder of pictures like ImageNet's, without a download: python -m runtime.make_folder OUT [--size N] [--train N].

OUT/train/CLASS/*.png and OUT/val/CLASS/*.png are crops of the photographs inside scikit-image; a photograph is a class.
Training crops are from its left part, held-out ones from its right part, with a gap between: no pixel is in both.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image
from rich.progress import track

from runtime import seeds
from runtime.command import Parser, run
from runtime.data.photographs import Photograph, pixels
from runtime.errors import UserError
from runtime.storage.log import console

PARTS = {"train": (0.0, 0.6), "val": (0.65, 1.0)}  # of the photograph's width
SIDES = (0.4, 0.8)  # of a crop, relative to the shorter side of the held-out part


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.make_folder", description="Write a small folder of pictures by class.")
    parser.add_argument("out", type=Path, help="the folder to be written; must not exist, or be empty")
    parser.add_argument("--size", type=int, default=48, help="height and width of a picture; default: 48")
    parser.add_argument("--train", type=int, default=150, help="training pictures of a class; default: 150")
    parser.add_argument("--val", type=int, default=50, help="held-out pictures of a class; default: 50")
    parser.add_argument("--seed", type=int, default=0, help="one seed, one folder; default: 0")
    options = parser.parse_args(arguments)
    photographs = [Image.fromarray(pixels(name)).convert("RGB") for name in get_args(Photograph)]
    require(options.size, min(smallest_side(photograph) for photograph in photographs))
    for name in ("train", "val"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}: every class needs at least one picture")
    if not 0 <= options.seed <= seeds.LARGEST:
        raise UserError(f"--seed is {options.seed}: a whole number from 0 on is needed")
    counts = {"train": options.train, "val": options.val}
    crops = [
        Crop(photograph, name, part, number)
        for name, photograph in zip(get_args(Photograph), photographs, strict=True)
        for part, count in counts.items()
        for number in range(count)
    ]
    write(options.out, crops, options.size, options.seed)
    print(
        f"{options.out}: {len(photographs)} classes, {options.train} training and {options.val} held-out pictures each"
    )


def require(size: int, largest: int) -> None:
    if not 8 <= size <= largest:
        raise UserError(f"--size is {size} and must be from 8 to {largest}, so that no crop is enlarged")


def smallest_side(photograph: Image.Image) -> int:
    return int(SIDES[0] * shorter_side(photograph))


def shorter_side(photograph: Image.Image) -> float:
    low, high = PARTS["val"]
    return min(photograph.height, (high - low) * photograph.width)


@dataclass(frozen=True)
class Crop:
    """One picture: a random square of a part of a photograph, resized."""

    photograph: Image.Image
    name: str
    part: str
    number: int

    @property
    def file(self) -> Path:
        return Path(self.part, self.name, f"{self.number:05}.png")

    def picture(self, size: int, seed: int) -> Image.Image:
        box = self.box(seed)
        return self.photograph.crop(box).resize((size, size), Image.Resampling.LANCZOS)

    def box(self, seed: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom: f(seed, class, part, number)."""
        key = get_args(Photograph).index(self.name), list(PARTS).index(self.part), self.number
        generator: np.random.Generator = seeds.numpy_generator(seeds.FOLDER, seed, *key)
        first, last = (round(share * self.photograph.width) for share in PARTS[self.part])
        side = int(generator.uniform(*SIDES) * shorter_side(self.photograph))
        left = int(generator.integers(first, last - side, endpoint=True))
        top = int(generator.integers(self.photograph.height - side, endpoint=True))
        return left, top, left + side, top + side


def write(out: Path, crops: Sequence[Crop], size: int, seed: int) -> None:
    """All crops as PNG files below `out`, which appears whole or not at all; refuses to overwrite."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty: choose another folder, or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    screen = console()
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for crop in track(crops, "pictures", console=screen, disable=not screen.is_terminal):
            (temporary / crop.file).parent.mkdir(parents=True, exist_ok=True)
            crop.picture(size, seed).save(temporary / crop.file)
        temporary.chmod(0o755)  # a temporary folder is made for its owner alone
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    run(main)
