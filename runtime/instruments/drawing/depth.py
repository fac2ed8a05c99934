"""Numbers along depth: lines over named layers, told apart by colour, marker and line style together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from textwrap import fill

from matplotlib.axes import Axes

from runtime.images.palette import COLOURS, MARKERS

DASHES = ("-", "--", ":", "-.")
UPRIGHT = 6  # labels that stand beside each other without being turned
LABELLED = 26  # of more places some are named only


@dataclass(frozen=True)
class Line:
    """Values over the same places as `labels` of the axis; None where there is none. `errors` are drawn as bars."""

    name: str
    values: Sequence[float | None]
    errors: Sequence[float | None] | None = None
    joined: bool = True  # whether the places are one computation, so that a line between them means something


def draw(axis: Axes, labels: Sequence[str], lines: Sequence[Line], quantity: str) -> None:
    """Lines over the places of `labels`; points that are not joined stand beside each other."""
    looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(DASHES), strict=False)
    for place, (line, (colour, marker, dash)) in enumerate(zip(lines, looks, strict=False)):
        beside = 0.0 if line.joined else min(0.12, 0.8 / len(lines)) * (place - (len(lines) - 1) / 2)
        kept = [number for number, value in enumerate(line.values) if value is not None]
        values = [line.values[number] for number in kept]
        bars = [line.errors[number] or 0.0 for number in kept] if line.errors else None
        look = {"color": colour, "marker": marker, "linestyle": dash if line.joined else "none", "markersize": 5}
        axis.errorbar(
            [number + beside for number in kept], values, bars, linewidth=1.5, elinewidth=1, capsize=2,
            label=line.name, **look,
        )  # fmt: skip
    name_places(axis, labels)
    axis.set_ylabel(fill(quantity, 38), fontsize=9)
    finish(axis)


def name_places(axis: Axes, labels: Sequence[str]) -> None:
    every = -(-len(labels) // LABELLED)
    shown = range(0, len(labels), every)
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(labels) > UPRIGHT else {}
    axis.set_xticks(list(shown), [labels[number] for number in shown], fontsize=8, **turned)
    axis.set_xlim(-0.5, len(labels) - 0.5)


def finish(axis: Axes) -> None:
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
