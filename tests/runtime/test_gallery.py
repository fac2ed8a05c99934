"""The gallery: up to date, complete, and made of commands that exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import pytest
from latex2mathml.converter import convert

from crate_dsl import compile_spec
from runtime.errors import UserError
from runtime.gallery import PAGE, PICTURES, RESULTS, gallery, results, stale, write

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"
PATHS = sorted(SPECS.glob("*.crate"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the folder of specs, small enough to be quick: two specs with their results and pictures."""
    (tmp_path / PICTURES).mkdir()
    kept = [entry for entry in (SPECS / RESULTS).read_text().split("- spec: ") if entry.split("\n")[0] in KEPT]
    (tmp_path / RESULTS).write_text("".join(f"- spec: {entry}" for entry in kept))
    for name in KEPT:
        shutil.copy(SPECS / f"{name}.crate", tmp_path)
    write(tmp_path)
    return tmp_path


KEPT = ("crate", "crate_decoder")


def test_the_committed_gallery_is_up_to_date() -> None:
    assert stale(SPECS) == [], "run: python -m runtime.gallery"


def test_writing_twice_changes_nothing(folder: Path) -> None:
    assert sorted(path.name for path in (folder / PICTURES).iterdir()) == ["crate.svg", "crate_decoder.svg"]
    assert stale(folder) == [] and write(folder) == []


def test_what_is_stale_is_seen_and_brought_up_to_date(folder: Path) -> None:
    spec, picture = folder / "crate.crate", folder / PICTURES / "crate_decoder.svg"
    spec.write_text(spec.read_text().replace("d = 768, K = 12, L = 12", "d = 768, K = 12, L = 10"))
    picture.write_text(picture.read_text() + " ")
    (folder / PICTURES / "gone.svg").write_text("")
    expected = [PAGE, f"{PICTURES}/crate.svg", f"{PICTURES}/crate_decoder.svg", f"{PICTURES}/gone.svg"]
    assert sorted(stale(folder)) == sorted(expected)
    assert sorted(write(folder)) == sorted(expected) and stale(folder) == []


def test_a_spec_without_a_result_is_refused(folder: Path) -> None:
    shutil.copy(SPECS / "crate_paper.crate", folder)
    with pytest.raises(UserError, match="no measured result for crate_paper"):
        gallery(folder)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("- {spec: nowhere, figure: f, command: c, machine: m, date: 2026-01-01}", "no spec nowhere"),
        ("- {spec: crate, figure: f, command: c, machine: m}", "date"),
        ("- {spec: crate, figure: f, command: c, machine: m, date: 2026-13-01}", "month"),
        ("- {spec: crate, figure: f, command: c, machine: m, date: soon}", "date"),
        ("- {spec: crate, figur: f, command: c, machine: m, date: 2026-01-01}", "figur"),
        ("a: [", "results.yaml"),
    ],
)
def test_results_that_are_none_are_refused(entry: str, message: str, folder: Path) -> None:
    (folder / RESULTS).write_text(entry + "\n")
    with pytest.raises(UserError, match=message):
        gallery(folder)


@pytest.mark.parametrize("result", results(SPECS), ids=lambda result: f"{result.spec}: {result.command}")
def test_commands_are_of_modules_and_files_that_exist(result: object) -> None:
    words = shlex.split(result.command)
    assert words[:2] == ["python", "-m"] and importlib.util.find_spec(words[2])
    specs = [word for word in words if word.endswith(".crate")]
    assert f"specs/{result.spec}.crate" in specs and all((ROOT / spec).is_file() for spec in specs)
    if "--recipe" in words:
        assert (SPECS / "recipes" / f"{words[words.index('--recipe') + 1]}.yaml").is_file()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_page_shows_every_spec(path: Path) -> None:
    page, compilation = (SPECS / PAGE).read_text(), compile_spec(path)
    assert f"\n## {path.stem}\n" in page and f'src="{PICTURES}/{path.stem}.svg"' in page
    assert f"[{path.name}]({path.name}), {compilation.costs.parameters:,} parameters" in page
    for step in compilation.formulas:
        assert f"`{step.title}`" in page and step.aligned in page


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_formulas_are_latex_that_github_renders(path: Path) -> None:
    for step in compile_spec(path).formulas:
        name = (step.title.partition(" by ")[2] or step.title.split()[-1]).split("(")[0]
        assert r"\operatorname" not in step.aligned and name in step.aligned.replace("\\_", "_")
        assert "merror" not in convert(step.aligned)
        assert all(row.count("&") == 1 for row in step.formula)
        assert step.aligned.count("{") == step.aligned.count("}")


def test_tables_have_as_many_cells_in_every_row() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", (SPECS / PAGE).read_text(), re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
