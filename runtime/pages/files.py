"""The numbers and the figures of a report: report.json, a CSV of every table, an SVG and a PNG of every figure."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.images.pictures import save
from runtime.instruments.section import Cell, Curve, Section, Sheet
from runtime.storage import checkpoint
from runtime.storage.file_names import as_file_name, numbered

PRINTED = 200  # dots per inch of a PNG
TAKEN = ("together", "side-by-side")  # by what is said of several networks at once
LONGEST = 60  # characters of a network's label in names of files


@dataclass(frozen=True)
class Measured:
    """One network of a report: its label and what every instrument gave."""

    label: str
    sections: Sequence[Section]
    facts: Mapping[str, Cell]


def stem(*words: str) -> str:
    """A name of a file: `stem("energies", "As the step reads them")` is "energies-as-the-step-reads-them"."""
    return "-".join(re.sub(r"[\W_]+", "-", word.lower()).strip("-") for word in words if word)


def prefixes(found: Sequence[Measured]) -> list[str]:
    """What the names of each network's files begin with: its label without what file systems dislike, made unique.

    Letters of any script stay; capitals do not, which some file systems do not tell apart.
    """
    names: list[str] = []
    for each in found:
        name = as_file_name(each.label.lower(), LONGEST).strip(".") or "network"
        names.append(numbered(name, (*TAKEN, *names)))
    return names


def cleared(out: Path) -> Path:
    """The folder of a report, made if it is not there; of an earlier report in it the tables and figures go."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / "report.json").exists():
        for file in (*out.glob("tables/*.csv"), *out.glob("figures/*.svg"), *out.glob("figures/*.png")):
            file.unlink()
    return out


def write_numbers(found: Sequence[Measured], together: Section | None, out: Path) -> None:
    """report.json with everything, and tables/*.csv."""
    content = {"networks": [entry(each) for each in found]}
    if together:
        content["side_by_side"] = section_entry(together)
    checkpoint.replace_text(out / "report.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    (out / "tables").mkdir(exist_ok=True)
    for name, sheet in sheets(found, together):
        checkpoint.replace_text(out / "tables" / f"{name}.csv", comma_separated(sheet))


def sheets(found: Sequence[Measured], together: Section | None) -> Iterator[tuple[str, Sheet]]:
    """All tables with the names of their files, which begin with the network's label where there are several."""
    for prefix, section in prefixed(found, together):
        yield from ((f"{prefix}{stem(section.name, sheet.name)}", sheet) for sheet in section.sheets)


def prefixed(found: Sequence[Measured], together: Section | None) -> Iterator[tuple[str, Section]]:
    if together:
        yield "", together
    for prefix, each in zip(prefixes(found), found, strict=True):
        yield from ((f"{prefix}-" if len(found) > 1 else "", section) for section in each.sections)


def entry(each: Measured) -> dict[str, object]:
    return {"label": each.label, **each.facts, "sections": [section_entry(section) for section in each.sections]}


def section_entry(section: Section) -> dict[str, object]:
    return {
        "name": section.name,
        "title": section.title,
        "absent": section.absent or None,
        "text": list(section.text),
        "formulas": {formula.heading: list(formula.rows) for formula in section.formulas},
        "tables": {sheet.name: table_entry(sheet) for sheet in section.sheets},
        "curves": [curve_entry(curve) for curve in section.curves],
        "figures": {panel.name: panel.caption for panel in section.panels},
    }


def table_entry(sheet: Sheet) -> dict[str, object]:
    rows = [[plain(cell) for cell in row] for row in sheet.rows]
    return {"caption": sheet.caption, "columns": list(sheet.columns), "rows": rows}


def curve_entry(curve: Curve) -> dict[str, object]:
    spread = None if curve.spread is None else [plain(value) for value in curve.spread]
    values = [plain(value) for value in curve.values]
    return {"quantity": curve.quantity, "labels": list(curve.labels), "values": values, "spread": spread}


def plain(cell: Cell) -> Cell:
    """JSON knows no infinity: numbers that are not finite are words."""
    return str(cell) if isinstance(cell, float) and not math.isfinite(cell) else cell


def comma_separated(sheet: Sheet) -> str:
    """Numbers in full, empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(sheet.columns)
    writer.writerows(["" if cell is None else cell for cell in row] for row in sheet.rows)
    return out.getvalue()


def write_figures(found: Sequence[Measured], together: Section | None, out: Path) -> dict[int, Path]:
    """figures/*.svg and *.png; returns where the SVG of each panel lies, by the panel's id."""
    (out / "figures").mkdir(exist_ok=True)
    places = {}
    for prefix, section in prefixed(found, together):
        for panel in section.panels:
            name = f"{prefix}{stem(section.name, panel.name)}"
            places[id(panel)] = save(panel.figure, out / "figures" / f"{name}.svg")
            save(panel.figure, out / "figures" / f"{name}.png", PRINTED)
    return places
