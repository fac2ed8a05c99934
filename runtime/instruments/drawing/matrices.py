"""Pictures of matrices: angles between subspaces, cosines of their columns, singular values, filters of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from runtime.images.palette import COLOURS, DIVERGING, MARKERS, SEQUENTIAL, STYLES
from runtime.instruments.drawing.charts import WIDTH, finish, short
from runtime.instruments.drawing.charts import logarithmic as log_scale

PRINTED = 6  # subspaces whose angles are written into the cells
COSINE = 0.5  # where the scale of cosines ends: most are far smaller
FLOOR = 1e-8  # of values over the largest: float32 has no more digits
Grid = Mapping[str, Mapping[str, np.ndarray]]  # state, then label


def squares(grid: Grid, colour_bar: str, top: float, numbers: bool = False, beyond: bool = False) -> Figure:
    """A row of square matrices for every state, a column for every label, on one scale from 0 to `top`, or `beyond`."""
    columns = max(len(row) for row in grid.values())
    figure = Figure(figsize=(min(WIDTH, 1.2 + 2.1 * columns), 0.3 + 2.2 * len(grid)), layout="constrained")
    axes = figure.subplots(len(grid), columns, squeeze=False)
    image = None
    for line, (state, row) in zip(axes, grid.items(), strict=True):
        for axis, (label, matrix) in zip(line, row.items(), strict=True):
            image = axis.imshow(matrix, cmap=SEQUENTIAL, vmin=0, vmax=top)
            axis.set_title(f"{short(label)}, {state}", fontsize=9)
            axis.tick_params(labelsize=8)
            if numbers:
                write_in(axis, matrix, top)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, extend="max" if beyond else "neither")
    bar.set_label(colour_bar, fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def write_in(axis: Axes, matrix: np.ndarray, top: float) -> None:
    """Whole numbers in the cells, dark on light and light on dark."""
    axis.set_xticks(range(len(matrix)))
    axis.set_yticks(range(len(matrix)))
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "black" if value > 0.55 * top else "white"
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color=colour)


def angles(grid: Grid) -> Figure:
    """Smallest principal angles below the diagonal, mean ones above it."""
    numbers = all(len(matrix) <= PRINTED for row in grid.values() for matrix in row.values())
    return squares(grid, "degrees", 90, numbers)


def cosines(grid: Grid, members: int) -> Figure:
    """|cosines| of all columns, with lines between the subspaces where they can be told apart."""
    figure = squares(grid, "|cosine|", COSINE, beyond=True)
    for axis in figure.axes:
        for image in axis.get_images():
            size = image.get_array().shape[0]
            edges = [size * number / members - 0.5 for number in range(1, members)]
            for edge in edges:
                axis.axhline(edge, color="white", linewidth=0.3)
                axis.axvline(edge, color="white", linewidth=0.3)
    return figure


def falling(curves: Mapping[str, Mapping[str, Sequence[float]]], x: str, y: str, logarithmic: bool) -> Figure:
    """A panel for every state with a line for every label, over the rank 1, 2, ... of the values."""
    figure = Figure(figsize=(WIDTH if len(curves) > 1 else 6.0, 3.4), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(curves), sharey=True))
    for axis, (state, lines) in zip(axes, curves.items(), strict=True):
        looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(STYLES), strict=False)
        for (label, values), (colour, marker, style) in zip(lines.items(), looks, strict=False):
            every = max(1, len(values) // 8)
            axis.plot(range(1, len(values) + 1), values, style, color=colour, marker=marker, markersize=4.5,
                      markevery=every, linewidth=1.4, label=label)  # fmt: skip
        if logarithmic:
            log_scale(axis)
            axis.set_ylim(bottom=max(axis.get_ylim()[0], FLOOR))
        axis.set_title(state, fontsize=9, loc="left")
        axis.set_xlabel(x, fontsize=9)
        finish(axis)
    axes[0].set_ylabel(y, fontsize=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def filters(states: Mapping[str, Tensor], features: Sequence[int]) -> Figure:
    """Filters (count, channels, height, width) of the same features in every state, the features' numbers above them.

    One channel: orange to violet around zero. Three: as colours around grey. Scaled by the largest entry of each.
    """
    count = len(features)
    columns = min(8, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH if len(states) > 1 else 5.0, 0.62 * rows + 0.5), layout="constrained")
    parts = figure.subfigures(1, len(states), squeeze=False, wspace=0.04)[0]
    for part, (state, images) in zip(parts, states.items(), strict=True):
        part.suptitle(state, fontsize=9)
        axes = part.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, image, feature in zip(axes, images, features, strict=False):
            axis.set_title(str(feature), fontsize=8, pad=1.5)
            show_filter(axis, image)
    return figure


def show_filter(axis: Axes, image: Tensor) -> None:
    largest = float(image.abs().max()) or 1.0
    pixels = (image / largest).permute(1, 2, 0).numpy()
    if pixels.shape[2] == 3:
        axis.imshow(pixels / 2 + 0.5, vmin=0, vmax=1)
    else:
        axis.imshow(pixels.mean(2), cmap=DIVERGING, vmin=-1, vmax=1)
