"""Small charts of numbers along depth, one line for each state of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from runtime.images.palette import COLOURS

LOOKS = {"trained": (COLOURS[0], "o", "-"), "initial": (COLOURS[1], "s", "--")}
NAMED = 13  # places of one chart whose names are written out, the first and others at equal distances
WIDTH = 9.0  # inches of a figure that is as wide as the page


@dataclass(frozen=True)
class Chart:
    """Values of every state over the same places; `bands` hold the lowest and the highest at each place.

    `references` are levels with their names; `curve` is the quantity by which networks are compared, if they are. On a
    logarithmic axis what is not positive is left out.
    """

    quantity: str
    labels: Sequence[str]
    states: Mapping[str, Sequence[float]]
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] = field(default_factory=dict)
    references: Mapping[str, float] = field(default_factory=dict)
    logarithmic: bool = False
    curve: str = ""


def short(label: str) -> str:
    """ "encoder.3.compress" is "encoder 3", "encoder_norm" is "encoder norm"."""
    parts = label.split(".")
    return " ".join(parts[:2]) if len(parts) > 1 else label.replace("_", " ")


def charts(all_of_them: Sequence[Chart], columns: int = 2) -> Figure:
    """A grid of charts with one legend for the states."""
    columns = min(columns, len(all_of_them))
    rows = math.ceil(len(all_of_them) / columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 6.0, 2.9 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, chart in zip(axes, all_of_them, strict=False):
        draw(axis, chart)
    for axis in axes[len(all_of_them) :]:
        axis.set_axis_off()
    lines = {line.get_label(): line for axis in axes for line in axis.get_lines() if line.get_label() in LOOKS}
    figure.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=2, fontsize=9, frameon=False)
    return figure


def draw(axis: Axes, chart: Chart) -> None:
    for state, values in chart.states.items():
        colour, marker, style = LOOKS[state]
        axis.plot(
            range(len(values)), values, style, color=colour, marker=marker, markersize=4.5, linewidth=1.5, label=state
        )
        if state in chart.bands:
            axis.fill_between(range(len(values)), *chart.bands[state], color=colour, alpha=0.15, linewidth=0)
    for name, level in chart.references.items():
        axis.axhline(level, color="0.35", linewidth=1, linestyle=":", zorder=0)
        axis.annotate(name, (1, level), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                      ha="right", va="bottom", fontsize=8, color="0.25")  # fmt: skip
    if chart.logarithmic:
        logarithmic(axis)
    axis.set_title(fill(chart.quantity, 52), fontsize=9, loc="left")
    name_places(axis, [short(label) for label in chart.labels])
    finish(axis)


def name_places(axis: Axes, labels: Sequence[str]) -> None:
    """Names at the first place of every layer, of many layers at some."""
    firsts = [number for number, label in enumerate(labels) if not number or labels[number - 1] != label]
    every = math.ceil(len(firsts) / NAMED)
    shown = firsts[::every]
    axis.set_xticks(shown, [labels[n] for n in shown], rotation=40, ha="right", rotation_mode="anchor")
    axis.set_xlim(-0.4, len(labels) - 0.6)


def logarithmic(axis: Axes) -> None:
    """A logarithmic vertical axis, with plain numbers also between the powers of ten where it spans few of them."""
    axis.set_yscale("log", nonpositive="mask")
    low, high = axis.get_ylim()
    if high < 100 * low:
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    narrow = high < 10 * low
    axis.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}") if narrow else NullFormatter())


def finish(axis: Axes) -> None:
    axis.tick_params(which="both", labelsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
