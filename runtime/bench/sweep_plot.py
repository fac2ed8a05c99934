"""The plot of a sweep: a row per axis (tokens, width, depth), a column per cost (forward, training step, memory)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from runtime.bench.measure import Costs
from runtime.bench.spread import Spread
from runtime.bench.sweep import Axis
from runtime.images.palette import COLOURS, MARKERS
from runtime.images.pictures import save
from runtime.images.scale import logarithmic

Quantity = Callable[[Costs, float], Spread | None]
CAUSAL = "causal "  # how the names of causal forms begin: the colour of the form, dashed


def seconds(values: Sequence[float] | None, unit: float) -> Spread | None:
    return Spread.of([value * unit for value in values]) if values else None


def megabytes(peak: int | None, share: float) -> Spread | None:
    return Spread.of([peak * share / 1e6]) if peak else None


COLUMNS: dict[str, Quantity] = {
    "forward": lambda costs, share: seconds(costs.forward, 1e3 * share),
    "forward and backward": lambda costs, share: seconds(costs.training, 1e3 * share),
    "peak memory of forward and backward": lambda costs, share: megabytes(costs.peak, share),
}
LABELS = {"tokens": "tokens N", "width": "width d", "depth": "layers L"}


def plot(axes: Sequence[Axis], title: str, folder: Path) -> list[Path]:
    """bench.svg and bench.png; returns the files."""
    figure = Figure(figsize=(13, 0.6 + 3.6 * len(axes)), layout="constrained")
    grid = figure.subplots(len(axes), len(COLUMNS), squeeze=False)
    for row, axis in zip(grid, axes, strict=True):
        for place, (name, of) in zip(row, COLUMNS.items(), strict=True):
            draw(place, axis, of)
            finish(place, axis, name)
        handles, labels = row[0].get_legend_handles_labels()
        row[0].legend(
            handles, labels, title=what(axis), loc="upper left", alignment="left", frameon=False, fontsize=8,
            title_fontsize=8,
        )  # fmt: skip
    figure.suptitle(title, fontsize=10)
    return [save(figure, folder / f"bench.{ending}") for ending in ("svg", "png")]


def what(axis: Axis) -> str:
    return f"operators alone, {axis.fixed}" if axis.name == "tokens" else f"network, {axis.fixed}"


def draw(place: Axes, axis: Axis, of: Quantity) -> None:
    """A line through the medians with a band from the least to the greatest; of operators, per input."""
    forms = list(dict.fromkeys(label.removeprefix(CAUSAL) for label in axis.labels))
    for label in axis.labels:
        number = forms.index(label.removeprefix(CAUSAL))
        points = [axis.point(label, at) for at in axis.places]
        share = {point.at: 1 / point.batch if axis.name == "tokens" else 1.0 for point in points}
        spreads = {point.at: of(point.costs, share[point.at]) for point in points}
        found = {at: spread for at, spread in spreads.items() if spread}
        colour, style = COLOURS[number % len(COLOURS)], "--" if label.startswith(CAUSAL) else "-"
        place.plot(
            list(found), [spread.median for spread in found.values()], color=colour, linestyle=style, label=label,
            marker=MARKERS[number % len(MARKERS)], markersize=5,
            fillstyle="none" if label.startswith(CAUSAL) else "full",
        )  # fmt: skip
        edges = [[spread.least for spread in found.values()], [spread.greatest for spread in found.values()]]
        place.fill_between(list(found), *edges, color=colour, alpha=0.15, linewidth=0)


def finish(place: Axes, axis: Axis, name: str) -> None:
    """Scales, labels and units."""
    unit = "MB" if "memory" in name else "ms"
    place.set_xlabel(LABELS[axis.name])
    if axis.name == "tokens":
        place.set(xscale="log", ylabel=f"{unit} per input of N tokens")
        place.set_title(name, fontsize=9)
        ticks = [at for at in axis.places if at & (at - 1) == 0] or axis.places  # powers of two
        place.set_xticks(ticks, [f"{tick}" for tick in ticks], fontsize=8)
        place.xaxis.set_minor_locator(NullLocator())
        logarithmic(place)
        low, high = place.get_ylim()
        place.set_ylim(low, high * (high / low) ** 0.3)  # room for the legend
    else:
        place.set_ylabel(f"{unit} per batch")
        place.set_title(name.replace("forward and backward", "training step"), fontsize=9)
        place.set_ylim(0, 1.35 * place.get_ylim()[1])
        place.set_xticks(axis.places)
    place.grid(alpha=0.25)
    place.spines[["top", "right"]].set_visible(False)
