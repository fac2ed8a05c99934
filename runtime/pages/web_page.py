"""The page: one HTML file with its figures inside, readable without a network and in print."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from crate_dsl.mathematics.webpage import mathml
from runtime.instruments.section import Cell, Formula, Panel, Section, Sheet
from runtime.pages.files import Measured, prefixes

SHOWN_ROWS = 14  # longer tables are folded


def page(title: str, lead: str, found: Sequence[Measured], together: Section | None, places: Mapping[int, Path]) -> str:
    """The whole page; whatever users wrote is text in it and never markup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": cell, "mathml": set_in_mathml}

    def picture(panel: Panel) -> Markup:
        """The figure as an address that holds it: its identifiers then cannot meet those of other figures."""
        encoded = base64.b64encode(places[id(panel)].read_bytes()).decode()
        return Markup(f"data:image/svg+xml;base64,{encoded}")

    return environment.get_template("report.html").render(
        title=title, lead=lead, found=list(zip(prefixes(found), found, strict=True)), together=together,
        picture=picture, numeric=numeric, shown_rows=SHOWN_ROWS,
    )  # fmt: skip


def set_in_mathml(formula: Formula) -> Markup:
    """The equations as MathML, which browsers set by themselves."""
    rows = " \\\\ ".join(formula.rows)
    return Markup(mathml(rf"\begin{{align*}} {rows} \end{{align*}}", "block"))


def numeric(sheet: Sheet, column: int) -> bool:
    """Whether a column holds numbers, which are aligned at the right."""
    cells = [row[column] for row in sheet.rows if row[column] is not None]
    return bool(cells) and all(isinstance(value, int | float) for value in cells)


def cell(value: Cell) -> str:
    """A number with four digits that count, as people read it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.4g}"
