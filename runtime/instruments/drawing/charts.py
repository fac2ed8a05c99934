"""Numbers along depth: charts of lines over named places, told apart by colour, marker and line style together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runtime.images.palette import COLOURS, MARKERS
from runtime.images.scale import logarithmic

DASHES = ("-", "--", ":", "-.")
WIDTH, HEIGHT = 9.0, 2.9  # inches of a figure that is as wide as the page, and of one row of charts
KEY, LETTERS = 8, 11  # letters that the sign of a line takes in a legend, and that an inch of it holds
UPRIGHT = 8  # characters up to which the names of places are not turned
NAMED = 13  # places of one chart whose names are written out, the first and others at equal distances

Band = tuple[Sequence[float], Sequence[float]]  # the lowest and the highest at each place


@dataclass(frozen=True)
class Line:
    """Values over the places of a chart, None where there is none; `band` is shaded, `bars` are drawn up and down.

    What is not `joined` stands beside the other lines' points: the places are then no one computation. `colour` and
    `dash` are places in their lists; None: that of the label among those of the figure.
    """

    label: str
    values: Sequence[float | None]
    band: Band | None = None
    bars: Sequence[float | None] | None = None
    joined: bool = True
    faint: bool = False  # what is there for comparison
    colour: int | None = None
    dash: int | None = None


@dataclass(frozen=True)
class Chart:
    """One axis. `references` are levels with their names; on a logarithmic axis what is not positive is left out."""

    title: str
    places: Sequence[str]
    lines: Sequence[Line]
    unit: str = ""
    of: str = ""  # what the places are
    references: Mapping[str, float] = field(default_factory=dict)
    logarithmic: bool = False


def around(values: Sequence[float], spread: Sequence[float]) -> Band:
    """One standard deviation to either side."""
    low, high = zip(*((v - s, v + s) for v, s in zip(values, spread, strict=True)), strict=True)
    return low, high


def short(name: str) -> str:
    """ "encoder.3.compress" is "encoder 3", "encoder_norm" is "encoder norm"."""
    parts = name.split(".")
    return " ".join(parts[:2]) if len(parts) > 1 else name.replace("_", " ")


def charts(all_of_them: Sequence[Chart], columns: int = 2) -> Figure:
    """A grid of charts with one legend for all lines."""
    columns = min(columns, len(all_of_them))
    rows = math.ceil(len(all_of_them) / columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 6.0, HEIGHT * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    labels = list(dict.fromkeys(line.label for chart in all_of_them for line in chart.lines))  # each looks as one line
    for axis, chart in zip(axes, all_of_them, strict=False):
        draw(axis, chart, labels)
    for axis in axes[len(all_of_them) :]:
        axis.set_axis_off()
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    widest = max(map(len, handles), default=0) + KEY
    across = max(1, min(2 * columns, len(handles), int(figure.get_figwidth() * LETTERS / widest)))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=across, fontsize=9, frameon=False)
    return figure


def draw(axis: Axes, chart: Chart, labels: Sequence[str] = ()) -> None:
    """One chart, without a legend; `labels` are all that the legend will have, where it is one of several charts."""
    labels = labels or [line.label for line in chart.lines]
    joined = {line.joined for line in chart.lines} != {False}
    for number, line in enumerate(chart.lines):
        beside = 0.0 if joined else min(0.12, 0.8 / len(chart.lines)) * (number - (len(chart.lines) - 1) / 2)
        draw_line(axis, line, labels.index(line.label), beside)
    for name, level in chart.references.items():
        axis.axhline(level, color="0.35", linewidth=1, linestyle=":", zorder=0)
        axis.annotate(name, (1, level), (-2, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                      ha="right", va="bottom", fontsize=8, color="0.25")  # fmt: skip
    if chart.logarithmic:
        logarithmic(axis)
    axis.set_title(fill(chart.title, 52), fontsize=9, loc="left")
    axis.set_ylabel(fill(chart.unit, 38), fontsize=9)
    axis.set_xlabel(chart.of, fontsize=9)
    name_places(axis, chart.places)
    finish(axis)


def draw_line(axis: Axes, line: Line, number: int, beside: float) -> None:
    colour = COLOURS[(number if line.colour is None else line.colour) % len(COLOURS)]
    dash = DASHES[(number if line.dash is None else line.dash) % len(DASHES)]
    kept = [place for place, value in enumerate(line.values) if value is not None]
    bars = [line.bars[place] or 0.0 for place in kept] if line.bars else None
    if line.band is not None:
        axis.fill_between(range(len(line.values)), *line.band, color=colour, alpha=0.15, linewidth=0)
    axis.errorbar(
        [place + beside for place in kept], [line.values[place] for place in kept], bars, label=line.label,
        color=colour, marker=MARKERS[number % len(MARKERS)], linestyle=dash if line.joined else "none",
        markersize=4.5, linewidth=1.5, elinewidth=1, capsize=2, alpha=0.6 if line.faint else 1,
    )  # fmt: skip


# ---- axes ----------------------------------------------------------------------------------------------------------


def name_places(axis: Axes, places: Sequence[str]) -> None:
    """Names at the first place of each, of many at some; turned where they are long."""
    firsts = [number for number, name in enumerate(places) if not number or places[number - 1] != name]
    shown = firsts[:: math.ceil(len(firsts) / NAMED)]
    long = max((len(places[number]) for number in shown), default=0) > UPRIGHT
    turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axis.set_xticks(shown, [places[number] for number in shown], fontsize=8, **turned)
    axis.set_xlim(-0.5, len(places) - 0.5)


def finish(axis: Axes) -> None:
    axis.tick_params(which="both", labelsize=8)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
