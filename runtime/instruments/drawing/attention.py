"""Figures of attention maps, components and object masks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from runtime.data.source import DataSource
from runtime.images.palette import COLOURS, DIVERGING, SEQUENTIAL
from runtime.images.pictures import draw_image
from runtime.inspection.segmentation import resized, top_mass
from runtime.instruments.drawing.charts import Chart, Line, charts
from runtime.instruments.looking import Look
from runtime.instruments.section import Panel

HEADS = 8  # that are shown
SIDE = 1.15  # inches of a picture


def maps(look: Look, source: DataSource) -> Panel:
    """Every image beside the maps of its heads; a white line surrounds what holds 60 % of a map's mass."""
    heads = min(HEADS, look.maps.shape[1])
    figure, axes = sheet(len(look.maps), 1 + heads)
    shown = source.displayed(look.scene.images.float()).cpu()
    kept = top_mass(look.maps)
    for row, name in enumerate(look.scene.names):
        draw_image(axes[row][0], shown[row])
        named(axes[row][0], name)
        for head in range(heads):
            axis, values = axes[row][1 + head], look.maps[row, head].numpy()
            axis.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=values.max())
            outline(axis, kept[row, head].numpy(), "white")
            axis.set_axis_off()
            if row == 0:
                axis.set_title(f"head {head + 1}", fontsize=9)
    total = look.maps.shape[1]
    which = f"The first {heads} of {total} heads" if heads < total else "All heads"
    caption = f"{which} of {look.step}. Light is much, each map on its own scale; the line surrounds 60 % of its mass."
    return Panel("maps", caption, figure)


def objects(look: Look, source: DataSource) -> Panel:
    """Image, first component, colours of the foreground, objects of the normalised cuts, mask where it is known."""
    titles = ["image", "first component", "foreground", "objects", *(["mask"] if look.scene.masks else [])]
    figure, axes = sheet(len(look.maps), len(titles))
    shown = source.displayed(look.scene.images.float()).cpu()
    limit = np.abs(look.first).max()
    for row, name in enumerate(look.scene.names):
        for axis in axes[row]:
            axis.set_axis_off()
        draw_image(axes[row][0], shown[row])
        named(axes[row][0], name)
        axes[row][1].imshow(look.first[row], cmap=DIVERGING, vmin=-limit, vmax=limit)
        axes[row][2].imshow(look.colours[row])
        draw_image(axes[row][3], shown[row])
        for cut, colour in zip(look.cuts[row], COLOURS[1:], strict=False):
            outline(axes[row][3], resized(torch_mask(cut), tuple(shown.shape[2:])).numpy(), colour)
        if row in look.scene.masks:
            axes[row][4].imshow(look.scene.masks[row].numpy(), cmap="gray", vmin=0, vmax=1)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    caption = (
        "Projections onto the subspaces: components over all patches that are shown, and objects of each image alone."
    )
    return Panel("objects", caption, figure)


def overlaps(ious: Mapping[str, Tensor]) -> Panel:
    """Coarse mIoU by step, beside that of random maps."""
    *steps, chance = ious
    best = [float(ious[name].amax(dim=1).mean()) for name in steps]
    mean = [float(ious[name].mean()) for name in steps]
    level = [float(ious[chance].amax(dim=1).mean())] * len(steps)
    lines = [
        Line("best head of each image", best, colour=0),
        Line("mean over heads", mean, colour=2),
        Line("best of as many random maps", level, dashed=True, colour=5),
    ]
    ticks = [str(number) for number in range(len(steps))]
    chart = Chart("Class-token maps beside the masks", "coarse mIoU", ticks, lines)
    return Panel("miou", "Coarse mIoU by layer, held out.", charts([chart]))


# ---- parts ---------------------------------------------------------------------------------------------------------


def sheet(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(SIDE * columns + 0.9, SIDE * rows + 0.4), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def named(axis: Axes, name: str) -> None:
    """The name at the left of a row."""
    axis.text(-0.08, 0.5, name, transform=axis.transAxes, fontsize=8, ha="right", va="center")


def outline(axis: Axes, mask: np.ndarray, colour: str) -> None:
    """A line around the pixels of a mask, along their edges."""
    padded = np.pad(mask, 1)
    for row, column in zip(*np.nonzero(padded), strict=True):
        x, y = column - 1.5, row - 1.5  # the upper left corner of the pixel
        edges = {(-1, 0): ((x, x + 1), (y, y)), (1, 0): ((x, x + 1), (y + 1, y + 1)),
                 (0, -1): ((x, x), (y, y + 1)), (0, 1): ((x + 1, x + 1), (y, y + 1))}  # fmt: skip
        for (down, right), ends in edges.items():
            if not padded[row + down, column + right]:
                axis.plot(*ends, color=colour, linewidth=1.2, solid_capstyle="butt")


def torch_mask(mask: np.ndarray) -> Tensor:
    return Tensor(mask.astype(np.float32)) > 0
