"""The plot of a grid: the held-out metric against the step, and where every variant ends with every seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runtime.images.palette import COLOURS, MARKERS, STYLES
from runtime.images.pictures import save

SHOWN = 12  # variants in one plot; colour, line and marker together tell so many apart
START = 0.4  # share of the steps that the scale of the curves leaves out, where all of them still rush


@dataclass(frozen=True)
class Line:
    """One variant: its label, and for every seed the metric by step."""

    label: str
    seeds: Mapping[int, Sequence[tuple[int, float]]]

    @property
    def ends(self) -> list[float]:
        return [curve[-1][1] for curve in self.seeds.values() if curve]

    @property
    def mean(self) -> float:
        return sum(self.ends) / len(self.ends)

    def averaged(self) -> list[tuple[int, float]]:
        """The mean over the seeds, at the steps that all of them have."""
        curves = [dict(curve) for curve in self.seeds.values()]
        steps = sorted(set.intersection(*(set(curve) for curve in curves)))
        return [(step, sum(curve[step] for curve in curves) / len(curves)) for step in steps]


def plot(lines: Sequence[Line], metric: str, larger_is_better: bool, title: str, folder: Path) -> list[Path]:
    """plot.svg and plot.png; of more than twelve variants the best twelve. Returns the files."""
    lines = [line for line in lines if line.ends]
    if len(lines) > SHOWN:
        kept = sorted(lines, key=lambda line: line.mean, reverse=larger_is_better)[:SHOWN]
        title += f"; the best {SHOWN} of {len(lines)} variants"
        lines = [line for line in lines if line in kept]
    figure = Figure(figsize=(12, 3.2 + 0.34 * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    styles = list(islice(zip(cycle(COLOURS), cycle(MARKERS), strict=False), len(lines)))
    for number, (line, (colour, marker)) in enumerate(zip(lines, styles, strict=True)):
        draw_curve(left, line, colour, marker, STYLES[number // len(COLOURS)])
        draw_end(right, line, colour, marker, number)
    finish(left, right, lines, metric)
    figure.suptitle(fill(title, 110), fontsize=10)
    return [save(figure, folder / f"plot.{ending}") for ending in ("svg", "png")]


def draw_curve(axis: Axes, line: Line, colour: str, marker: str, style: str) -> None:
    """The mean over the seeds, with every seed as a thin line where there are several."""
    if len(line.seeds) > 1:
        for curve in line.seeds.values():
            axis.plot(*zip(*curve, strict=True), color=colour, linestyle=style, linewidth=0.6, alpha=0.5)
    steps, values = zip(*line.averaged(), strict=True)
    every = max(1, len(steps) // 8)
    axis.plot(steps, values, color=colour, linestyle=style, marker=marker, markersize=5, markevery=every, linewidth=1.6)


def draw_end(axis: Axes, line: Line, colour: str, marker: str, place: int) -> None:
    """The mean as a filled marker, every seed as a hollow one, and a bar from the least to the greatest."""
    axis.hlines(place, min(line.ends), max(line.ends), color=colour, linewidth=6, alpha=0.3)
    if len(line.ends) > 1:
        axis.plot(line.ends, [place] * len(line.ends), marker, color=colour, fillstyle="none", markersize=6)
    axis.plot(line.mean, place, marker, color=colour, markersize=9)
    axis.annotate(
        f"{line.mean:.4g}", (max(line.ends), place), (9, 0), textcoords="offset points", va="center", fontsize=9
    )


def finish(left: Axes, right: Axes, lines: Sequence[Line], metric: str) -> None:
    """Scales, labels and grid; the names beside the ends are the legend of both halves."""
    name = f"held out: {metric}"
    left.set(xlabel="step", ylabel=name)
    low, high = scale([point for line in lines for curve in line.seeds.values() for point in curve])
    left.set_ylim(low, high)
    left.margins(x=0.02)
    right.set_yticks(range(len(lines)), [fill(line.label, 44) for line in lines], fontsize=9)
    right.set_ylim(len(lines) - 0.5, -0.5)
    right.margins(x=0.18)
    right.set_xlabel(f"{name}, at the end")
    right.ticklabel_format(axis="x", useOffset=False)
    right.xaxis.set_major_locator(MaxNLocator(5))
    for axis in (left, right):
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)


def scale(points: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The range of the values after the first two fifths of the steps, with a margin."""
    last = max(step for step, _ in points)
    late = [value for step, value in points if step >= START * last]
    margin = 0.06 * (max(late) - min(late)) or 0.01
    return min(late) - margin, max(late) + margin
