"""What an instrument gives: text, figures, tables, and curves that can be laid beside those of other networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Panel:
    """One figure with the words under it; `name` is that of its files, letters, digits and hyphens."""

    name: str
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Sheet:
    """One table: in the page, as CSV and in the JSON. All rows are as long as `columns`; None is an empty cell."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]


@dataclass(frozen=True)
class Formula:
    """Equations under a heading: rows of LaTeX's `align*`, without the environment around them."""

    heading: str
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Curve:
    """One number along depth, to be drawn beside that of other networks.

    `quantity` names it in full, with its split and its unit; networks are compared where the quantities are equal.
    `labels` are the steps or layers in order; `spread` is the standard deviation over the batch, where it has one.
    """

    quantity: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    spread: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Section:
    """What one instrument has to say about one network; `text` says how to read it and where it departs."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    panels: Sequence[Panel] = field(default_factory=tuple)
    sheets: Sequence[Sheet] = field(default_factory=tuple)
    curves: Sequence[Curve] = field(default_factory=tuple)
    formulas: Sequence[Formula] = field(default_factory=tuple)
    absent: str = ""  # why there is nothing, where there is nothing
