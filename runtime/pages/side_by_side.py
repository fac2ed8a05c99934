"""Several networks beside each other: every quantity that more than one of them has, along depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from textwrap import fill

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from runtime.images.palette import COLOURS, MARKERS, STYLES
from runtime.instruments.section import Curve, Panel, Section, Sheet
from runtime.pages.files import Measured, stem

Lines = Mapping[str, Curve]  # by the label of the network


def side_by_side(found: Sequence[Measured]) -> Section | None:
    """The curves that are there more than once, with the ends of each as a table; None for one network alone."""
    if len(found) < 2:
        return None
    shared = {quantity: lines for quantity, lines in by_quantity(found).items() if len(lines) > 1}
    panels = [
        Panel(stem(quantity), f"{quantity}, along depth.", drawn(quantity, lines)) for quantity, lines in shared.items()
    ]
    return Section("side-by-side", "Side by side", text(found, shared), panels, [figures(found), ends(shared)])


def text(found: Sequence[Measured], shared: Mapping[str, Lines]) -> tuple[str, ...]:
    if shared:
        return (f"{len(found)} networks. Depth is in steps of each network's own layers, from its first to its last.",)
    return (f"{len(found)} networks, which share no quantity along depth.",)


def by_quantity(found: Sequence[Measured]) -> dict[str, dict[str, Curve]]:
    gathered: dict[str, dict[str, Curve]] = {}
    for each in found:
        for curve in (curve for section in each.sections for curve in section.curves):
            gathered.setdefault(curve.quantity, {})[each.label] = curve
    return gathered


def figures(found: Sequence[Measured]) -> Sheet:
    """The facts of every network, a row each."""
    names = list(dict.fromkeys(name for each in found for name in each.facts))
    rows = [(each.label, *(each.facts.get(name) for name in names)) for each in found]
    return Sheet("networks", "The networks.", ("network", *names), rows)


def ends(shared: Mapping[str, Lines]) -> Sheet:
    """Where every curve begins and ends."""
    rows = [
        (quantity, label, curve.labels[0], curve.values[0], curve.labels[-1], curve.values[-1])
        for quantity, lines in shared.items()
        for label, curve in lines.items()
    ]
    return Sheet(
        "ends", "First and last value of every curve.", ("quantity", "network", "from", "first", "to", "last"), rows
    )


def drawn(quantity: str, lines: Lines) -> Figure:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis: Axes = figure.subplots()
    looks = zip(cycle(COLOURS), cycle(MARKERS), strict=False)
    for number, ((label, curve), (colour, marker)) in enumerate(zip(lines.items(), looks, strict=False)):
        places = [n + 1 for n in range(len(curve.values))]
        style = STYLES[number // len(COLOURS) % len(STYLES)]
        axis.plot(
            places, curve.values, style, color=colour, marker=marker, markersize=4, linewidth=1.5, label=fill(label, 36)
        )
    axis.set(xlabel="place along depth", ylabel=fill(quantity, 44))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return figure
