"""Pictures as files: sheets of labelled images, and curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from runtime.images.scale import logarithmic
from runtime.storage import checkpoint


def sheet(columns: Mapping[str, Tensor], path: Path) -> Path:
    """One row per image, one labelled column per kind; images (count, channels, height, width) in [0, 1]."""
    count = len(next(iter(columns.values())))
    figure = Figure(figsize=(1.9 * len(columns), 1.5 * count + 0.9), layout="constrained")
    draw_images(figure, columns)
    return save(figure, path)


def draw_images(figure: Figure, columns: Mapping[str, Tensor]) -> None:
    """A row of the figure for each image, a labelled column for each kind."""
    axes = figure.subplots(len(next(iter(columns.values()))), len(columns), squeeze=False)
    for column, (label, images) in enumerate(columns.items()):
        axes[0][column].set_title(label, fontsize=8)
        for row, image in enumerate(images):
            draw_image(axes[row][column], image)


def draw_image(axis: Any, image: Tensor) -> None:
    pixels = image.permute(1, 2, 0).numpy()
    axis.imshow(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()


def curve(metrics: Sequence[Mapping[str, Any]], metric: str, path: Path) -> Path:
    """Training loss and the held-out metric against the step; a run that ended before it logged a loss has none."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    left = right = figure.subplots()
    train = [entry for entry in metrics if entry["split"] == "train"]
    held_out = [entry for entry in metrics if entry["split"] == "held_out"]
    left.set_xlabel("step")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    if train:
        mark = "o" if len(train) == 1 else None  # a line of one point is none
        steps, losses = [entry["step"] for entry in train], [entry["loss"] for entry in train]
        left.plot(steps, losses, marker=mark, markersize=4, label="training loss")
        left.set_ylabel("training loss")
        if all(entry["loss"] > 0 for entry in train):
            logarithmic(left)
        right = left.twinx()
    steps, values = [entry["step"] for entry in held_out], [entry[metric] for entry in held_out]
    right.plot(steps, values, "o-", color="tab:orange", markersize=3, label=f"held out: {metric}")
    right.set_ylabel(f"held out: {metric}")
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return save(figure, path)


def save(figure: Figure, path: Path, dpi: int = 120) -> Path:
    """The figure in the format of the path's ending; the same figure gives the same SVG, byte for byte."""
    FigureCanvasAgg(figure)
    kind = path.suffix[1:]
    extra = {"metadata": {"Date": None}} if kind == "svg" else {}
    with rc_context({"svg.hashsalt": path.stem}):
        checkpoint.replace_file(path, lambda temporary: figure.savefig(temporary, dpi=dpi, format=kind, **extra))
    return path
