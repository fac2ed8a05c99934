"""Figures of what a network loses without its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from runtime.images.palette import DIVERGING
from runtime.instruments.drawing.charts import Chart, Line, draw

PRINTED = (32, 16)  # rows and columns of a map whose cells still hold a number


def early_exits(labels: Sequence[str], losses: Sequence[Line], shares: Sequence[Line], unit: str) -> Figure:
    """The loss of the head after each layer and, where there is one, the share of right guesses beside it."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes, of = np.atleast_1d(figure.subplots(1, 2 if shares else 1)), "the head reads the tokens after"
    draw(axes[0], Chart("", labels, losses, unit, of))
    if shares:
        draw(axes[1], Chart("", labels, shares, "accuracy", of))
        axes[1].set_ylim(-0.02, 1.02)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def removed(labels: Sequence[str], lines: Sequence[Line], whole: float, unit: str) -> Figure:
    """The loss without each layer, and without each step of it, above the line of the whole network."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axis: Axes = figure.subplots()
    draw(axis, Chart("", labels, lines, unit, "left out"))
    axis.axhline(whole, color="0.35", linewidth=1, linestyle="--", label="whole network", zorder=0)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure


def heads(rows: Mapping[str, Sequence[float]], unit: str) -> Figure:
    """The change of the loss, steps from the first at the top, heads from left to right."""
    width = max(len(values) for values in rows.values())
    changes = np.array([[*values, *[math.nan] * (width - len(values))] for values in rows.values()])
    limit = np.nanmax(np.abs(changes)) or 1.0
    power = math.floor(math.log10(limit))
    figure = Figure(figsize=(min(9, 3.2 + 0.62 * width), 1.5 + 0.3 * len(rows)), layout="constrained")
    axis: Axes = figure.subplots()
    scaled = changes / 10**power
    edge = limit / 10**power
    image = axis.imshow(scaled, cmap=DIVERGING, vmin=-edge, vmax=edge, aspect="auto")
    axis.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axis.set_xticks(range(width), [str(head) for head in range(width)], fontsize=8)
    axis.set_xlabel("head", fontsize=9)
    if changes.shape[0] <= PRINTED[0] and width <= PRINTED[1]:
        print_cells(axis, scaled, edge)
    bar = figure.colorbar(image, ax=axis)
    times = "" if power == 0 else f", times {10.0**power:g}"
    bar.set_label(fill(f"change of the loss ({unit}){times}", 34), fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def print_cells(axis: Axes, values: np.ndarray, edge: float) -> None:
    for (row, column), value in np.ndenumerate(values):
        if math.isfinite(value):
            colour = "white" if abs(value) > 0.65 * edge else "black"
            axis.text(column, row, f"{round(value, 1) + 0.0:+.1f}", ha="center", va="center", fontsize=8, color=colour)
