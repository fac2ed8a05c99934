"""The plot of a race: median and range of every contestant's times, and its memory, with the floor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runtime.bench.measure import Measured
from runtime.bench.spread import Spread
from runtime.bench.table import figure as written
from runtime.images.palette import COLOURS
from runtime.images.pictures import save


def plot(measured: Measured, title: str, folder: Path) -> list[Path]:
    """bench.svg and bench.png; returns the files."""
    labels = [result.label for result in measured.results]
    figure = Figure(figsize=(13, 1.7 + 0.45 * len(labels)), layout="constrained")
    forward, training, memory = figure.subplots(1, 3, sharey=True)
    draw_times(forward, [result.costs.forward for result in measured.results], measured.floor.forward)
    draw_times(training, [result.costs.training for result in measured.results], measured.floor.training)
    for place, result in enumerate(measured.results):
        if result.costs.peak is not None:
            memory.barh(place, result.costs.peak / 1e6, height=0.5, color=colour(place))
            annotate(memory, result.costs.peak / 1e6, place)
    forward.set_yticks(range(len(labels)), labels)
    forward.set_ylim(len(labels) - 0.5, -0.5)
    names = ("forward pass (ms)", "training step (ms)", "peak memory of a training step (MB)")
    for axis, name in zip((forward, training, memory), names, strict=True):
        axis.set_xlabel(name)
        axis.set_xlim(0, 1.2 * axis.get_xlim()[1])
        axis.grid(axis="x", alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{title}; bars: least to greatest; dashed: the products alone", fontsize=10)
    return [save(figure, folder / f"bench.{ending}") for ending in ("svg", "png")]


def draw_times(axis: Axes, rows: Sequence[Sequence[float] | None], floor: float) -> None:
    """A bar from the least to the greatest, a marker at the median, in milliseconds."""
    axis.axvline(floor * 1e3, color="#555555", linestyle="--", linewidth=1)
    for place, values in enumerate(rows):
        if values is not None:
            spread = Spread.of(values)
            axis.hlines(place, spread.least * 1e3, spread.greatest * 1e3, color=colour(place), linewidth=7, alpha=0.35)
            axis.plot(spread.median * 1e3, place, "o", color=colour(place), markersize=7)
            annotate(axis, spread.greatest * 1e3, place, spread.median * 1e3)


def annotate(axis: Axes, end: float, place: int, value: float | None = None) -> None:
    text = written(end if value is None else value)
    axis.annotate(text, (end, place), (8, 0), textcoords="offset points", va="center", fontsize=9)


def colour(place: int) -> str:
    return COLOURS[place % len(COLOURS)]
