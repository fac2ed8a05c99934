"""The plot of an ablation: coarse mIoU by layer, one line for every combination of operators."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runtime.ablating.results import Ablation, Row
from runtime.images.palette import COLOURS, MARKERS
from runtime.images.pictures import save

DASHES = ("-", "--", "-.", (0, (1, 1)))


def plot(ablation: Ablation, folder: Path) -> list[Path]:
    """plot.svg and plot.png; returns the files."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axis = figure.subplots()
    for row, style in zip(ablation.trained, zip(COLOURS, MARKERS, DASHES, strict=False), strict=False):
        draw(axis, row, *style)
    axis.axhline(100 * ablation.bounds.random, color="0.5", linewidth=1, label="random maps")
    axis.set_xlabel("layer", fontsize=9)
    axis.set_ylabel("held out: coarse mIoU, %", fontsize=9)
    axis.tick_params(labelsize=9)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=9, frameon=False, handlelength=4)
    figure.suptitle(ablation.title, fontsize=9)
    return [save(figure, folder / f"plot.{ending}") for ending in ("svg", "png")]


def draw(axis: Axes, row: Row, colour: str, marker: str, style: str | tuple[int, tuple[int, int]]) -> None:
    """The mean over the seeds, with every seed as a thin line where there are several."""
    curves = [[100 * each.best for each in gained.overlaps] for gained in row.gained.values()]
    layers = range(1, len(curves[0]) + 1)
    if len(curves) > 1:
        for curve in curves:
            axis.plot(layers, curve, color=colour, linestyle=style, linewidth=0.6, alpha=0.5)
    mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
    axis.plot(layers, mean, color=colour, linestyle=style, marker=marker, markersize=6, label=row.operators)
