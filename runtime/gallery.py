"""The gallery of specs: `specs/README.md` and its pictures, made from the specs and from measured results.

    python -m runtime.gallery

Measured results are entered by hand in `specs/results.yaml`; everything else follows from the specs. A test compares
what lies in the folder with what this module makes of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import yaml
from pydantic import TypeAdapter

from crate_dsl import Compilation, compile_spec
from runtime.command import Parser, run
from runtime.errors import UserError
from runtime.registry import Strict

SPECS = Path("specs")
PAGE, RESULTS, PICTURES = "README.md", "results.yaml", "pictures"
HEAD = """# Gallery

Every network here is one text file: the objective of each layer and the approximations allowed. The compiler derives
the operator, verifies it (`crate-compile SPEC --check`) and draws the picture (`crate-compile SPEC --graph x.svg`).
Parameters are those of the sizes that the file states; presets have others. A bar marks tokens that the step
normalised, `norm(Z)` in the pictures. Made by `python -m runtime.gallery` from the specs and from `results.yaml`.
"""


class Result(Strict):
    """A measured figure of a spec, with the exact command that gives it."""

    spec: str
    figure: str
    command: str
    machine: str
    date: date


@dataclass(frozen=True)
class Exhibit:
    """One spec with all that the page says of it."""

    path: Path
    compilation: Compilation
    results: tuple[Result, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def picture(self) -> str:
        return f"{PICTURES}/{self.name}.svg"


def results(folder: Path) -> list[Result]:
    """The measured results in the order of the file.

    Raises:
        UserError: where the file does not hold results, with the entry and the key.
    """
    try:
        text = (folder / RESULTS).read_text(encoding="utf-8")
        return TypeAdapter(list[Result]).validate_python(yaml.safe_load(text))
    except (ValueError, yaml.YAMLError) as error:  # pydantic's errors are ValueErrors, so are yaml's of dates
        raise UserError(f"{folder / RESULTS}: {error}") from None


def exhibits(folder: Path) -> list[Exhibit]:
    """Every spec of the folder with its results.

    Raises:
        UserError: where a spec has no measured result, or a result no spec.
    """
    measured, paths = results(folder), sorted(folder.glob("*.crate"))
    names = {path.stem for path in paths}
    if unknown := sorted({result.spec for result in measured} - names):
        raise UserError(f"{folder / RESULTS}: no spec {', '.join(unknown)}; specs: {', '.join(sorted(names))}")
    if missing := sorted(names - {result.spec for result in measured}):
        raise UserError(f"{folder / RESULTS}: no measured result for {', '.join(missing)}")
    return [
        Exhibit(path, compile_spec(path), tuple(result for result in measured if result.spec == path.stem))
        for path in paths
    ]


def gallery(folder: Path) -> dict[str, str]:
    """All files of the gallery by their names in the folder: the page, and a picture of every spec."""
    shown = exhibits(folder)
    page = "\n".join([HEAD, *_overview(shown), *(line for exhibit in shown for line in _section(exhibit))])
    pictures = {exhibit.picture: exhibit.compilation.picture(exhibit.picture) for exhibit in shown}
    return {PAGE: page.rstrip() + "\n", **pictures}


def stale(folder: Path) -> list[str]:
    """Files of the gallery that are missing or differ from what would be made now, and pictures of no spec."""
    made = gallery(folder)
    differ = [name for name, text in made.items() if _read(folder / name) != text]
    left = sorted(f"{PICTURES}/{path.name}" for path in (folder / PICTURES).glob("*"))
    return differ + [name for name in left if name not in made]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


# ---- the page ------------------------------------------------------------------------------------------------------


def _overview(shown: list[Exhibit]) -> Iterator[str]:
    yield "| spec | what it is | parameters | measured |"
    yield "| --- | --- | ---: | --- |"
    for exhibit in shown:
        cells = (f"[{exhibit.name}](#{exhibit.name})", _cell(exhibit.compilation.model.description),
                 f"{exhibit.compilation.costs.parameters:,}", _cell(exhibit.results[0].figure))  # fmt: skip
        yield f"| {' | '.join(cells)} |"
    yield ""


def _section(exhibit: Exhibit) -> Iterator[str]:
    """What the spec says of itself, its picture, its formulas, its results."""
    model, costs = exhibit.compilation.model, exhibit.compilation.costs
    yield from (f"## {exhibit.name}", "", f"{_cell(_comment(exhibit.path))} Spec: [{exhibit.path.name}]"
                f"({exhibit.path.name}), {costs.parameters:,} parameters.", "")  # fmt: skip
    alternative = f"{model.name}, unrolled: {', '.join(step.title for step in exhibit.compilation.formulas)}"
    yield from (f'<a href="{exhibit.picture}"><img src="{exhibit.picture}" width="640" '
                f'alt="{_attribute(alternative)}"></a>', "")  # fmt: skip
    for step in exhibit.compilation.formulas:
        yield from (f"**{step.name}** ({step.block}): `{step.title}`", "", "```math", step.aligned, "```", "")
    yield from ("| measured | command | machine | date |", "| --- | --- | --- | --- |")
    for result in exhibit.results:
        yield f"| {_cell(result.figure)} | `{_cell(result.command)}` | {_cell(result.machine)} | {result.date} |"
    yield ""


def _comment(path: Path) -> str:
    """The comment that opens a spec: what it is and from where."""
    lines = path.read_text(encoding="utf-8").splitlines()
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ").strip() for line in lines[:count])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _attribute(text: str) -> str:
    return _cell(text).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("\\|", "|")


# ---- the command ---------------------------------------------------------------------------------------------------


def write(folder: Path) -> list[str]:
    """Bring the folder up to date; returns what was written or removed."""
    made, changed = gallery(folder), stale(folder)
    (folder / PICTURES).mkdir(exist_ok=True)
    for name in changed:
        if name in made:
            (folder / name).write_text(made[name], encoding="utf-8")
        else:
            (folder / name).unlink()
    return changed


def main(arguments: Sequence[str]) -> None:
    Parser(prog="python -m runtime.gallery", description=__doc__.split("\n")[0]).parse_args(arguments)
    if not SPECS.is_dir():
        raise UserError("there is no folder specs/ here; run this in the root of the project")
    changed = write(SPECS)
    print("\n".join(f"wrote {SPECS / name}" for name in changed) or "the gallery is up to date")


if __name__ == "__main__":
    run(main)
