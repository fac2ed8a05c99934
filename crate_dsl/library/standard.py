"""The standard library of energies: files in the language itself, which a spec includes by name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from crate_dsl.errors import Source
from crate_dsl.language.parse import parse_energies
from crate_dsl.language.syntax import EnergyDeclaration

FOLDER = Path(__file__).with_name("energies")
FILES = {file.stem: file for file in sorted(FOLDER.glob("*.crate"))}


def listing() -> str:
    """Every energy of the standard library, by file, with its signature and what the file says of it."""
    lines = []
    for name, file in FILES.items():
        source = Source(file.name, file.read_text(encoding="utf-8"))
        opening = about(source, source.text.index("\n\n") + 1)
        lines += [f"include {name}", *(f"  {line}" for line in opening), ""]
        for energy in energies_of(source):
            lines += [f"    {signature(energy)}", *(f"        {line}" for line in about(source, energy.span.start)), ""]
    return "\n".join(lines)


def energies_of(source: Source) -> Iterator[EnergyDeclaration]:
    yield from (item for item in parse_energies(source) if isinstance(item, EnergyDeclaration))


def about(source: Source, offset: int) -> list[str]:
    """The comment that stands directly above a place, without its signs."""
    lines: list[str] = []
    for line in reversed(source.text[:offset].splitlines()):
        if not line.startswith("#"):
            break
        lines.insert(0, line.lstrip("# ").rstrip())
    return lines


def signature(energy: EnergyDeclaration) -> str:
    """`lasso(A: d x N | X: d x N, D: d x d, lambda: real)`, as the file has it."""
    text = energy.span.source.text[energy.span.start : energy.body.span.start]
    return re.sub(r"\s+", " ", text).removeprefix("energy ").rstrip(" =(")
