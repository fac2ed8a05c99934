"""Numbers of a network in its states, trained beside initial: what is kept of them, and how they go along depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from runtime.instruments.drawing.charts import Band, Chart, Line, short
from runtime.instruments.section import Curve

T = TypeVar("T")
STATES = ("trained", "initial")  # each has its colour in all figures, whether the other is there or not


@dataclass(frozen=True)
class Along:
    """A chart with a line for each state; `curve` is the quantity that networks are compared by, if they are."""

    chart: Chart
    names: tuple[str, ...]
    curve: str = ""


def kept(of: Callable[[nn.Module], Sequence[T]], states: Mapping[str, nn.Module]) -> dict[str, Sequence[T]]:
    """What there is in every state, without states that have nothing."""
    return {state: values for state, network in states.items() if (values := of(network))}


def along(
    quantity: str,
    states: Mapping[str, Sequence[T]],
    name: Callable[[T], str],
    value: Callable[[T], float],
    band: Callable[[T], tuple[float, float]] | None = None,
    curve: str = "",
    **look: object,
) -> Along:
    """One number of every record along depth, with a band from low to high where there is one."""
    names = tuple(map(name, next(iter(states.values()))))
    lines = [
        Line(state, [value(each) for each in found], band_of(found, band), colour=STATES.index(state),
             dash=STATES.index(state))
        for state, found in states.items()
    ]  # fmt: skip
    return Along(Chart(quantity, [short(each) for each in names], lines, **look), names, curve)


def band_of(found: Sequence[T], band: Callable[[T], tuple[float, float]] | None) -> Band | None:
    return None if band is None else tuple(zip(*map(band, found), strict=True))


def curves(found: Iterable[Along]) -> Iterator[Curve]:
    """Of the network itself, trained where it is; half of a band's width is the spread."""
    for each in found:
        line = each.chart.lines[0]
        spread = tuple(float(high - low) / 2 for low, high in zip(*line.band, strict=True)) if line.band else None
        if each.curve:
            yield Curve(each.curve, each.names, tuple(line.values), spread)
