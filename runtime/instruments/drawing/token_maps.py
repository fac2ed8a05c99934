"""Pictures of tokens: maps of nearest subspaces beside the image, shares of the subspaces, sparse codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb
from matplotlib.figure import Figure
from scipy import ndimage
from torch import Tensor

from runtime.images.palette import COLOURS, SEQUENTIAL
from runtime.images.pictures import draw_image
from runtime.inspection.evenly import positions
from runtime.instruments.drawing.charts import WIDTH, short

WRITTEN = 8  # rows and columns of a map whose every patch is numbered; in larger ones every region is
REGION = 3  # patches of a region that has room for its number
TALL = 24  # steps of a table of shares whose cells are written out
TOKENS = 200  # of one input in a picture of a code
FEATURES = 96  # of a code in its picture


def kind_colours(count: int) -> list[tuple[float, ...]]:
    """Colours of `count` kinds: the palette, its tints, its shades; numbers tell apart what is alike."""
    base = [np.array(to_rgb(colour)) for colour in COLOURS]
    tints = [1 - 0.45 * (1 - colour) for colour in base]
    shades = [0.5 * colour for colour in base if colour.any()]
    all_of_them = [*base, *tints, *shades]
    return [tuple(all_of_them[number % len(all_of_them)]) for number in range(count)]


def maps(images: Tensor, names: Sequence[str], rows: Sequence[Mapping[str, np.ndarray]], count: int) -> Figure:
    """A row for each image (channels, height, width) in [0, 1]: itself, then its map at every label."""
    columns = 1 + len(rows[0])
    figure = Figure(figsize=(min(WIDTH, 1.5 * columns), 1.55 * len(images) + 0.3), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    colours = kind_colours(count)
    shades = ListedColormap(colours), BoundaryNorm(np.arange(count + 1) - 0.5, count)
    for place, (line, image, name, row) in enumerate(zip(axes, images, names, rows, strict=True)):
        draw_image(line[0], image)
        line[0].set_title(name, fontsize=8)
        for axis, (label, kinds) in zip(line[1:], row.items(), strict=True):
            axis.imshow(kinds, cmap=shades[0], norm=shades[1])
            axis.set_axis_off()
            number(axis, kinds, colours)
            if not place:
                axis.set_title(short(label), fontsize=8)
    return figure


def number(axis: Axes, kinds: np.ndarray, colours: Sequence[tuple[float, ...]]) -> None:
    """The number of the subspace in every patch, of large maps in every region of some size."""
    for row, column in np.ndindex(kinds.shape) if max(kinds.shape) <= WRITTEN else region_places(kinds):
        kind = int(kinds[row, column])
        light = np.dot(colours[kind], (0.299, 0.587, 0.114)) > 0.5
        axis.text(column, row, str(kind), ha="center", va="center_baseline", fontsize=8,
                  color="black" if light else "white")  # fmt: skip


def region_places(kinds: np.ndarray) -> list[tuple[int, int]]:
    """Of every connected region of one kind the patch that lies nearest to its centre."""
    found = []
    for kind in np.unique(kinds):
        regions, count = ndimage.label(kinds == kind)
        for region in range(1, count + 1):
            patches = np.argwhere(regions == region)
            if len(patches) >= REGION:
                distances = np.square(patches - patches.mean(axis=0)).sum(axis=1)
                found.append(tuple(patches[distances.argmin()]))
    return found


def shares(states: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """How tokens are spread over the subspaces: rows are steps along depth, columns subspaces."""
    lengths = [len(rows) for rows in states.values()]
    figure = Figure(figsize=(WIDTH if len(states) > 1 else 5.5, 1.0 + 0.22 * max(lengths)), layout="constrained")
    axes = figure.subplots(1, len(states), squeeze=False)[0]
    top = max(float(np.max(share)) for rows in states.values() for share in rows.values())
    image = None
    for axis, (state, rows) in zip(axes, states.items(), strict=True):
        width = max(map(len, rows.values()))
        table = np.array([np.pad(share, (0, width - len(share)), constant_values=np.nan) for share in rows.values()])
        image = axis.imshow(table, cmap=SEQUENTIAL, vmin=0, vmax=top, aspect="auto")
        axis.set_title(state, fontsize=9, loc="left")
        axis.set_yticks(range(len(rows)), [short(label) for label in rows] if axis is axes[0] else [])
        axis.set_xlabel("subspace k", fontsize=9)
        axis.set_xticks(range(width))
        axis.tick_params(labelsize=8)
        if width <= WRITTEN and len(states) * len(rows) <= 2 * TALL:
            write_shares(axis, table, top)
    bar = figure.colorbar(image, ax=list(axes), pad=0.02)
    bar.set_label("share of tokens", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def write_shares(axis: Axes, table: np.ndarray, top: float) -> None:
    for (row, column), share in np.ndenumerate(table):
        if np.isfinite(share):
            colour = "black" if share > 0.55 * top else "white"
            axis.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=8, color=colour)


def codes(states: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Sizes of the entries of codes, features x tokens, over the largest of each picture; zeros are white."""
    columns = max(len(row) for row in states.values())
    figure = Figure(figsize=(min(WIDTH, 1.2 + 2.1 * columns), 0.4 + 2.4 * len(states)), layout="constrained")
    axes = figure.subplots(len(states), columns, squeeze=False)
    scale = colormaps[SEQUENTIAL].with_extremes(bad="white")
    image = None
    for line, (state, row) in zip(axes, states.items(), strict=True):
        for axis, (label, code) in zip(line, row.items(), strict=True):
            sizes = np.abs(code[positions(len(code), FEATURES), :TOKENS])
            sizes = np.ma.masked_equal(sizes, 0)
            largest = float(np.abs(code).max()) or 1.0
            image = axis.imshow(sizes / largest, cmap=scale, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
            axis.set_title(f"{short(label)}, {state}", fontsize=9)
            axis.tick_params(labelsize=8)
        line[0].set_ylabel("features", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("tokens", fontsize=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("size over the largest", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure
