"""Figures of networks that give images: what they give back, with which error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from runtime.images.palette import COLOURS, MARKERS
from runtime.images.pictures import draw_images
from runtime.instruments.drawing.charts import DASHES, WIDTH, finish, logarithmic


def grid(columns: Mapping[str, Tensor]) -> Figure:
    """A row for each image, a labelled column for each kind; images (count, channels, height, width) in [0, 1]."""
    count = len(next(iter(columns.values())))
    side = min(1.6, WIDTH / len(columns))
    lines = max(label.count("\n") for label in columns) + 1
    figure = Figure(figsize=(side * len(columns), side * count + 0.16 * lines + 0.1), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0, hspace=0)
    draw_images(figure, columns)
    return figure


def errors(levels: Sequence[float], lines: Mapping[str, Sequence[float]], of: str, quantity: str) -> Figure:
    """The error against how much is hidden; logarithmic where the lines are more than a factor of ten apart."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axis: Axes = figure.subplots()
    looks = zip(cycle(COLOURS), cycle(MARKERS), cycle(DASHES), strict=False)
    for (name, values), (colour, marker, dash) in zip(lines.items(), looks, strict=False):
        axis.plot(levels, values, dash, color=colour, marker=marker, markersize=5, linewidth=1.5, label=name)
    found = [value for values in lines.values() for value in values]
    if min(found) > 0 and max(found) > 10 * min(found):
        logarithmic(axis)
    axis.set_xticks(levels, [f"{level:g}" for level in levels])
    axis.set_xlabel(of, fontsize=9)
    axis.set_ylabel(quantity, fontsize=9)
    finish(axis)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure
