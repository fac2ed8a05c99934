"""The plot of an ablation: coarse mIoU by layer, one line for every combination of operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runtime.ablating.overlap import Overlap
from runtime.ablating.results import Ablation
from runtime.images.palette import COLOURS, MARKERS
from runtime.images.pictures import save

DASHES = ("-", "--", "-.", (0, (1, 1)))


def plot(ablation: Ablation, folder: Path) -> list[Path]:
    """plot.svg and plot.png: after training and before; returns the files."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    after, before = figure.subplots(1, 2, sharey=True)
    for row, style in zip(ablation.trained, zip(COLOURS, MARKERS, DASHES, strict=False), strict=False):
        draw(after, [gained.overlaps for gained in row.gained.values()], row.operators, *style)
        draw(before, [gained.initial for gained in row.gained.values()], "", *style)
    after.set_ylabel("held out: coarse mIoU, %", fontsize=9)
    for axis, title in ((after, "trained"), (before, "as initialised")):
        label = "random maps" if axis is after else ""
        axis.axhline(100 * ablation.bounds.random, color="0.5", linewidth=1, label=label)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("layer", fontsize=9)
        axis.tick_params(labelsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False, handlelength=4)
    figure.suptitle(ablation.title, fontsize=9)
    return [save(figure, folder / f"plot.{ending}") for ending in ("svg", "png")]


def draw(
    axis: Axes,
    seeds: Sequence[Sequence[Overlap]],
    label: str,
    colour: str,
    marker: str,
    style: str | tuple[int, tuple[int, int]],
) -> None:
    """The mean over the seeds, with every seed as a thin line where there are several."""
    curves = [[100 * each.best for each in overlaps] for overlaps in seeds]
    layers = range(1, len(curves[0]) + 1)
    if len(curves) > 1:
        for curve in curves:
            axis.plot(layers, curve, color=colour, linestyle=style, linewidth=0.6, alpha=0.5)
    mean = [sum(values) / len(values) for values in zip(*curves, strict=True)]
    axis.plot(layers, mean, color=colour, linestyle=style, marker=marker, markersize=6, label=label)
