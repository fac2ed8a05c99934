"""Figures of encoder states beside decoder states."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from runtime.images.palette import DIVERGING, SEQUENTIAL

PRINTED = 6  # states up to which cells hold their numbers
NAMED = 14  # states up to which every one is named


def matrices(found: Mapping[str, Mapping[str, np.ndarray]], quantity: str, signed: bool) -> Figure:
    """By row and column title, encoder states (rows of each array) against decoder states, pairs on the diagonal."""
    across = max(map(len, found.values()))
    figure = Figure(figsize=(1.2 + 3.7 * across, 3.5 * len(found)), layout="constrained")
    axes = figure.subplots(len(found), across, squeeze=False)
    for row, (above, arrays) in zip(axes, found.items(), strict=True):
        for axis, (title, values) in zip(row, arrays.items(), strict=True):
            image = matrix(axis, values, signed)
            axis.set_title(f"{title}, {above}", fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.8, label=quantity).ax.tick_params(labelsize=8)
    return figure


def matrix(axis: Axes, values: np.ndarray, signed: bool) -> AxesImage:
    """Decoder states from the last at the top to its input at the bottom."""
    shown = values.T[::-1]
    image = axis.imshow(shown, cmap=DIVERGING if signed else SEQUENTIAL, vmin=-1 if signed else 0, vmax=1)
    rows, columns = shown.shape
    name_states(axis, rows, columns)
    if rows == columns:
        size = 4 if rows > PRINTED else 34 - 3 * rows
        for colour, width in (("black", 2.6), ("white", 1)):
            axis.plot(range(rows), range(rows), "s", markersize=size, markerfacecolor="none",
                      markeredgecolor=colour, markeredgewidth=width)  # fmt: skip
    if max(rows, columns) <= PRINTED:
        for (row, column), value in np.ndenumerate(shown):
            dark = abs(value) > 0.65 if signed else value < 0.5
            text = f"{round(value, 2) + 0.0:.2f}" if math.isfinite(value) else ""
            axis.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    return image


def name_states(axis: Axes, rows: int, columns: int) -> None:
    """States by the layer that they leave, "in" for what enters the first."""
    every = 1 if max(rows, columns) <= NAMED else 2
    names = [["in", *map(str, range(count - 1))] for count in (columns, rows)]
    axis.set_xticks(range(0, columns, every), names[0][::every], fontsize=8)
    axis.set_yticks([rows - 1 - place for place in range(0, rows, every)], names[1][::every], fontsize=8)
    axis.set_xlabel("after encoder layer", fontsize=9)
    axis.set_ylabel("after decoder layer", fontsize=9)
