"""Pictures beside the training pictures that lie nearest to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from runtime.images.palette import COLOURS

SAME, OTHER = (COLOURS[0], "-", "✓"), (COLOURS[1], "--", "✗")  # colour, frame and sign say the same


@dataclass(frozen=True)
class Tile:
    """One picture (channels, height, width) in [0, 1]; `same` says whether its class is the query's, None unknown."""

    image: Tensor
    title: str
    same: bool | None = None


def neighbours(rows: Sequence[Sequence[Tile]]) -> Figure:
    """A row for each query: itself at the left, then its neighbours, the nearest first."""
    width = max(map(len, rows))
    figure = Figure(figsize=(1.45 * width, 1.72 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), width, squeeze=False)
    for row, tiles in zip(axes, rows, strict=True):
        for axis in row[len(tiles) :]:
            axis.set_axis_off()
        for axis, tile in zip(row, tiles, strict=False):
            draw(axis, tile)
    return figure


def draw(axis: Axes, tile: Tile) -> None:
    pixels = tile.image.permute(1, 2, 0).numpy()
    axis.imshow(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
    axis.set_xticks([])
    axis.set_yticks([])
    colour, style, sign = ("0.6", "-", "") if tile.same is None else SAME if tile.same else OTHER
    axis.set_title(f"{sign} {tile.title}".strip(), fontsize=8)
    for spine in axis.spines.values():
        spine.set(edgecolor=colour, linestyle=style, linewidth=1 if tile.same is None else 3)
