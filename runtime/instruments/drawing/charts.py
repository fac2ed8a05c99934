"""Several quantities along depth: an axis for each, a line per network and split, one legend for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runtime.images.palette import COLOURS, MARKERS

COLUMNS = 2
WIDTH, HEIGHT = 4.6, 2.9  # of one axis, inches


@dataclass(frozen=True)
class Line:
    """One line: its name, a value per layer and, where it has one, the standard deviation over the inputs."""

    label: str
    values: Sequence[float]
    spread: Sequence[float] | None = None
    dashed: bool = False
    faint: bool = False  # what is there for comparison
    colour: int | None = None  # its place in the palette; None: the next


@dataclass(frozen=True)
class Chart:
    """One axis. `ticks` name the layers; `log` scales values by powers of ten."""

    title: str
    unit: str
    ticks: Sequence[str]
    lines: Sequence[Line]
    log: bool = False


def charts(all_of_them: Sequence[Chart], columns: int = COLUMNS) -> Figure:
    """All axes in rows of two, one legend for all."""
    columns = min(columns, len(all_of_them))
    rows = ceil(len(all_of_them) / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows + 0.5), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    handles: dict[str, object] = {}
    for axis, chart in zip(axes, all_of_them, strict=False):
        handles |= drawn(axis, chart)
    for axis in axes[len(all_of_them) :]:
        axis.set_axis_off()
    figure.legend(
        handles.values(),
        handles,
        loc="outside lower center",
        ncols=min(2 * columns, len(handles)),
        fontsize=9,
        frameon=False,
    )
    return figure


def drawn(axis: Axes, chart: Chart) -> Mapping[str, object]:
    """Draw one chart; returns the lines by their labels."""
    handles = {}
    looks = zip(cycle(range(len(COLOURS))), cycle(MARKERS), strict=False)
    for line, (number, marker) in zip(chart.lines, looks, strict=False):
        colour = COLOURS[(number if line.colour is None else line.colour) % len(COLOURS)]
        places = range(len(line.values))
        style = dict(color=colour, linestyle="--" if line.dashed else "-", marker=marker, markersize=4, linewidth=1.4)
        if line.spread is not None:
            low, high = zip(*((v - s, v + s) for v, s in zip(line.values, line.spread, strict=True)), strict=True)
            axis.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
        (handles[line.label],) = axis.plot(places, line.values, alpha=0.6 if line.faint else 1, **style)
    finish(axis, chart)
    return handles


def finish(axis: Axes, chart: Chart) -> None:
    axis.set_title(fill(chart.title, 48), fontsize=10)
    axis.set_ylabel(chart.unit, fontsize=9)
    step = max(1, ceil(len(chart.ticks) / 12))
    axis.set_xticks(range(0, len(chart.ticks), step), chart.ticks[::step], fontsize=8)
    axis.set_xlabel("layer", fontsize=9)
    axis.tick_params(labelsize=8)
    if chart.log:
        axis.set_yscale("log")
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
