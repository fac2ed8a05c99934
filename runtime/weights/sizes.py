"""The sizes that an official file speaks of, and the preset of a spec that has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

from torch import Tensor

import crate_dsl
from crate_dsl.language.syntax import Preset
from runtime.weights.names import CRATE, CRATE_ALPHA, CRATE_MAE, CRATE_TEXT, TOST, TOST_TEXT, Family
from runtime.weights.positions import square_grid

NORMS = {  # an entry as wide as the tokens
    CRATE.name: "mlp_head.0.weight",
    CRATE_MAE.name: "norm.weight",
    CRATE_ALPHA.name: "mlp_head.0.weight",
    TOST.name: "norm.weight",
    TOST_TEXT.name: "transformer.ln_f.weight",
    CRATE_TEXT.name: "norm.weight",
}
HEADS, CONVOLUTIONS = ("mlp_head.1.weight", "head.weight"), ("conv1.weight", "patch_embed.proj.weight")
POSITIONS = ("pos_embedding", "decoder_pos_embed")
TEXTS = {"token_embedding.weight": "pos_embedding", "transformer.wte.weight": "transformer.wpe.weight"}


def sizes_in(official: Mapping[str, Tensor], family: Family) -> dict[str, int]:
    """Sizes under the names of the shipped specs, as far as shapes tell them: not the heads of most families."""
    shapes = {name: tuple(value.shape) for name, value in official.items()}
    numbers = {number for name in shapes if (number := layer(family, name)) is not None}
    width, head = shapes.get(NORMS[family.name], ()), shape_among(HEADS, shapes, 2)
    temperature = next((shape for name, shape in shapes.items() if name.endswith(".attn.temp")), ())
    found = {"d": width[:1], "L": (len(numbers),), "classes": head[:1], "K": temperature[:1]}
    sizes = {name: values[0] for name, values in found.items() if values and values[0]}
    return sizes | text_sizes(shapes) | image_sizes(shapes)


def shape_among(names: Iterable[str], shapes: Mapping[str, tuple[int, ...]], axes: int) -> tuple[int, ...]:
    """That of the first of these entries which is there with so many axes; () without one."""
    return next((shapes[name] for name in names if len(shapes.get(name, ())) == axes), ())


def text_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    for words, places in TEXTS.items():
        if len(shapes.get(words, ())) == 2 and len(shapes.get(places, ())) >= 2:
            return {"vocabulary": shapes[words][0], "length": shapes[places][-2]}
    return {}


def layer(family: Family, name: str) -> str | None:
    """The number of the encoder layer that a name belongs to."""
    rule = family.rule_of("encoder.0.0.matrix")
    before = rule.official.partition("{layer}")[0] if rule else ""
    inside = re.match(rf"{re.escape(before)}(\d+)\.", name)
    return inside[1] if inside else None


def image_sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Patch, channels and image, all square; a patch without a convolution is taken for one of three channels."""
    found: dict[str, int] = {}
    if stem := shape_among(["patch_embed.proj.0.0.weight"], shapes, 4):  # each of its convolutions halves the image
        count = sum(name.startswith("patch_embed.proj.") and len(shape) == 4 for name, shape in shapes.items())
        found = {"patch": 2**count, "channels": stem[1]}
    elif convolution := shape_among(CONVOLUTIONS, shapes, 4):
        found = {"patch": convolution[2], "channels": convolution[1]}
    elif normed := shape_among(["to_patch_embedding.1.weight"], shapes, 1):
        channels = 3 if isqrt(normed[0] // 3) ** 2 * 3 == normed[0] else 1
        found = {"patch": isqrt(normed[0] // channels), "channels": channels}
    places = shape_among(POSITIONS, shapes, 3)
    grid = square_grid(places[1] - 1) if places and found else None
    return found | ({"image": grid.rows * found["patch"]} if grid else {})


@dataclass(frozen=True)
class Choice:
    """A preset and further sizes with which a spec has the sizes of a file."""

    preset: str | None
    sizes: dict[str, int]
    width_known: bool  # a preset has this width, so its heads are those of such a network

    def __str__(self) -> str:
        words = [f"--preset {self.preset}"] if self.preset else []
        words += ["--set " + " ".join(f"{name}={value}" for name, value in self.sizes.items())] if self.sizes else []
        return " ".join(words)


def choice_for(spec: Path, found: Mapping[str, int]) -> Choice:
    """The preset that needs the fewest further sizes, a preset of the same width before others.

    Raises CrateError where the spec itself cannot be compiled.
    """
    presets = [item.name for item in crate_dsl.compile_spec(spec).spec.items if isinstance(item, Preset)]
    choices = []
    for preset in (None, *presets):
        sizes = crate_dsl.compile_spec(spec, preset).model.sizes
        other = {name: value for name, value in found.items() if name in sizes and sizes[name] != value}
        choices.append(Choice(preset, other, "d" not in other or "K" in found))
    return min(choices, key=lambda choice: (not choice.width_known, len(choice.sizes)))
