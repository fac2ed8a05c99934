"""Figures of attention maps, components and object masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import binary_erosion
from skimage.measure import find_contours
from torch import Tensor

from runtime.data.source import DataSource
from runtime.images.palette import COLOURS, DIVERGING, SEQUENTIAL
from runtime.images.pictures import draw_image
from runtime.inspection.class_maps import StepMaps, layers_of
from runtime.inspection.evenly import positions
from runtime.inspection.segmentation import resized, top_mass
from runtime.instruments.drawing.charts import Chart, Line, charts
from runtime.instruments.overlaps import BOX, Overlaps
from runtime.instruments.section import Panel

HEADS, STEPS = 8, 8  # that are shown, evenly chosen
SIDE, NAMES = 1.05, 1.0  # inches of a picture, and of the names at its left
BRIGHTEST = 0.99  # quantile of a row's weights that has the lightest colour: a few outliers would darken the rest
FINE, INSET = 128, 2  # pixels that a mask is drawn with, at least, and how far inside its line runs
DASHES = ("-", (0, (4, 1.5)), (0, (1, 1)))  # of the first, second and third object


@dataclass(frozen=True)
class Objects:
    """What the projections of the step `step` show of some images.

    `first` (images, rows, columns) is the first component, `colours` (..., 3) in [0, 1] the next three, white in the
    background, `cuts` the object masks (rows, columns) of every image.
    """

    step: str
    first: np.ndarray
    colours: np.ndarray
    cuts: list[list[np.ndarray]]


@dataclass(frozen=True)
class Look:
    """Images of one kind (images, channels, height, width), masks by their number, maps by step."""

    names: tuple[str, ...]
    images: Tensor
    masks: Mapping[int, Tensor]
    steps: Mapping[str, StepMaps]
    objects: Objects | None


def maps(looks: Sequence[Look], source: DataSource, back: int) -> Panel:
    """Every image beside the maps of its heads at the last step (`back` 1) or the one before it (2)."""
    name = list(looks[0].steps)[-back]
    total = looks[0].steps[name].maps.shape[1]
    heads = positions(total, HEADS)
    figure, rows = sheet(looks, source, ["image", *(f"head {head}" for head in heads)])
    for look, number, axes in rows:
        values = look.steps[name].maps[number]
        top = float(values[heads].quantile(BRIGHTEST))
        label(axes[0], f"{look.names[number]}\nup to {top:.2g}")
        for axis, head in zip(axes[1:], heads, strict=True):
            axis.imshow(values[head].numpy(), cmap=SEQUENTIAL, vmin=0, vmax=top or 1)
            outline(axis, top_mass(values[head]).numpy(), "white")
    which = "All heads" if len(heads) == total else f"{len(heads)} of {total} heads, evenly chosen,"
    caption = (
        f"{which} of {name}. Light is much; the heads of one image share their scale, from 0 to the number at its left "
        f"({BRIGHTEST:.0%} of the weights are below). Lines surround the patches that hold 60 % of a map's mass."
    )
    return Panel(("maps-last", "maps-last-but-one")[back - 1], caption, figure)


def depth(looks: Sequence[Look], source: DataSource) -> Panel:
    """Every image beside the mean map of the heads, step by step."""
    names = list(looks[0].steps)
    chosen = positions(len(names), STEPS)
    layers = layers_of(names)
    figure, rows = sheet(looks, source, ["image", *(title(layers[number]) for number in chosen)])
    for look, number, axes in rows:
        label(axes[0], look.names[number])
        for axis, step in zip(axes[1:], chosen, strict=True):
            values = look.steps[names[step]].maps[number]
            mean = (values / values.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-30)).mean(dim=0)
            axis.imshow(mean.numpy(), cmap=SEQUENTIAL, vmin=0, vmax=float(mean.quantile(BRIGHTEST)) or 1)
    which = f"{names[0]} to {names[-1]}"
    caption = f"The mean of all heads' maps along depth, {which}, each on its own scale from 0."
    return Panel("depth", caption, figure)


def objects(looks: Sequence[Look], source: DataSource) -> Panel:
    """Image, first component, colours of the foreground, objects of the normalised cuts, masks where they are known."""
    masked = any(look.masks for look in looks)
    figure, rows = sheet(looks, source, ["image", "first\ncomponent", "next three", "cut objects", *["mask"] * masked])
    for look, number, axes in rows:
        label(axes[0], look.names[number])
        found, size = look.objects, tuple(look.images.shape[2:])
        limit = float(np.abs(found.first).max()) or 1.0
        axes[1].imshow(found.first[number], cmap=DIVERGING, vmin=-limit, vmax=limit)
        axes[2].imshow(found.colours[number])
        draw_image(axes[3], source.displayed(look.images[number].float()).cpu())
        for cut, colour, style in zip(found.cuts[number], COLOURS[1:], DASHES, strict=False):
            outline(axes[3], resized(torch.as_tensor(cut), size).numpy(), colour, style)
        if number in look.masks:
            axes[4].imshow(look.masks[number].numpy(), cmap="gray", vmin=0, vmax=1)
    caption = (
        "Projections onto the subspaces: their first component, the next three as colours where it is positive "
        "(purple), and what normalised cuts find (first object solid, second dashed, third dotted)."
    )
    return Panel("objects", caption, figure)


def overlaps(found: Overlaps) -> Panel:
    """Coarse mIoU by step, and beside it that of cut objects where projections are cut, with what needs no network."""
    steps, cut = list(found.heads), list(found.cuts)
    lines = [
        Line("best head of each image", [mean(each.amax(dim=1)) for each in found.heads.values()], colour=0, dash=0),
        level(found, BOX, 3, steps),  # in the same place of both axes, which gives it the same marker
        Line("mean over heads", [mean(each) for each in found.heads.values()], colour=2, dash=0),
        level(found, found.chance, 5, steps),
    ]
    drawn = [Chart("Class-token maps", layers_of(steps), lines, "mIoU", "layer")]
    if cut:
        own = Line("best cut object", [mean(each) for each in found.cuts.values()], colour=1, dash=0)
        drawn.append(Chart("Normalised cuts", layers_of(cut), [own, level(found, BOX, 3, cut)], "mIoU", "layer"))
    caption = f"Maps and cut objects beside the masks, {found.name}; dashed is what needs no network."
    return Panel(f"miou-{found.name.replace(' ', '-')}", caption, charts(drawn))


def level(found: Overlaps, name: str, colour: int, steps: Sequence[str]) -> Line:
    """What needs no network, as a line over all steps."""
    return Line(name, [mean(found.beside[name])] * len(steps), colour=colour, dash=1)


def mean(values: Tensor) -> float:
    return float(values.double().mean())


# ---- parts ---------------------------------------------------------------------------------------------------------


def sheet(
    looks: Sequence[Look], source: DataSource, titles: Sequence[str]
) -> tuple[Figure, list[tuple[Look, int, Sequence[Axes]]]]:
    """A row per image with the image at its left, and a column per title: every image with the axes of its row."""
    rows = [(look, number) for look in looks for number in range(len(look.names))]
    size = (SIDE * len(titles) + NAMES, (SIDE + 0.04) * len(rows) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for axis, name in zip(axes[0], titles, strict=True):
        axis.set_title(name, fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    for (look, number), row in zip(rows, axes, strict=True):
        draw_image(row[0], source.displayed(look.images[number].float()).cpu())
    return figure, [(look, number, row) for (look, number), row in zip(rows, axes, strict=True)]


def title(layer: str) -> str:
    """Of a column; a step without a layer's number has its name, broken where words end."""
    return f"layer {layer}" if layer.isdigit() else layer.replace("_", "\n").replace(".", "\n")


def label(axis: Axes, words: str) -> None:
    """At the left of a row."""
    axis.text(-0.08, 0.5, words, transform=axis.transAxes, fontsize=8, ha="right", va="center")


def outline(axis: Axes, mask: np.ndarray, colour: str, style: object = "-") -> None:
    """A line just inside a mask, so that those of neighbours lie side by side; on black, to be seen on every ground."""
    factor = ceil(FINE / max(mask.shape))
    fine = np.pad(np.kron(mask, np.ones((factor, factor))), 1) > 0
    around = [patheffects.Stroke(linewidth=2.2, foreground="black"), patheffects.Normal()]
    inner = binary_erosion(fine, np.ones((3, 3)), INSET)
    for line in find_contours(inner.astype(float), 0.5):
        y, x = (line.T - 0.5) / factor - 0.5  # the padding and half a pixel back, then in pixels of the mask
        axis.plot(x, y, color=colour, linewidth=1.3, linestyle=style, path_effects=around, scalex=False, scaley=False)
