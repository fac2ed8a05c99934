"""`include`: what is read, what is refused, and that a resolved spec states the same network."""

from __future__ import annotations

from pathlib import Path

import pytest

from crate_dsl import compile_spec
from crate_dsl.compiler import Compilation
from crate_dsl.errors import CrateError, Source
from crate_dsl.language.check import check
from crate_dsl.language.include import MAX_BYTES, MAX_FILES
from crate_dsl.language.model import Model
from crate_dsl.language.parse import parse
from crate_dsl.library.vocabulary import VOCABULARY
from crate_dsl.mathematics import page
from tests.specs import COMPRESS, FRONT, HEADER, SPARSIFY, encoder

LASSO = "energy lasso(A: d x N | X: d x N, D: d x d) = 1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)\n"
RATE = "energy rate(Z: d x N, U: K of d x p) = 1/2 * sum(k in K) logdet(I + (U[k]' * Z)' * (U[k]' * Z))\n"
UNUSABLE = "energy odd(Z: q x r) = norm2(Z)\n"  # over axes that no spec here has


def text(*includes: str, own: str = LASSO) -> str:
    lines = "".join(f"include {line}\n" for line in includes)
    return HEADER + lines + own + FRONT + encoder(COMPRESS + SPARSIFY) + "head classify(classes) of mean\n"


def model(content: str, folder: Path | None = None) -> Model:
    return check(parse(Source("t.crate", content, folder)), VOCABULARY)


def refused(content: str, folder: Path | None = None) -> str:
    with pytest.raises(CrateError) as caught:
        model(content, folder)
    return str(caught.value)


def body(compilation: Compilation) -> str:
    """The written file without its banner."""
    return compilation.text.partition("from __future__")[2]


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_a_file_of_the_library() -> None:
    found = model(text("rates"))
    assert found.blocks[0].steps[0].energy.name == "rate"
    assert [source.name for source in found.sources] == ["t.crate", "rates.crate"]
    assert not found.warnings, "energies that are included and not used are no cause for a warning"


def test_a_file_beside_the_spec(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.crate").write_text('include "more.crate"\n' + UNUSABLE)
    (tmp_path / "deep" / "more.crate").write_text(RATE)
    found = model(text('"deep/mine.crate"'), tmp_path)
    assert found.blocks[0].steps[0].energy.name == "rate" and not found.warnings
    assert [source.name for source in found.sources] == ["t.crate", "deep/more.crate"]


def test_one_file_through_two_others(tmp_path: Path) -> None:
    (tmp_path / "a.crate").write_text('include "c.crate"\n')
    (tmp_path / "b.crate").write_text('include "c.crate"\ninclude rates\n')
    (tmp_path / "c.crate").write_text(LASSO)
    assert model(text('"a.crate"', '"b.crate"', own=""), tmp_path).blocks[0].steps[1].energy.name == "lasso"


def test_an_included_energy_may_use_the_reals_of_the_spec(tmp_path: Path) -> None:
    (tmp_path / "mine.crate").write_text(LASSO)
    assert not model(text('"mine.crate"', "rates", own=""), tmp_path).warnings, "lambda is used"


# ---- what a resolved spec is -----------------------------------------------------------------------------------------


def test_a_spec_without_includes_is_its_own_resolved_text() -> None:
    content = text(own=RATE + LASSO)
    assert model(content).text == content


def test_the_resolved_text_holds_what_is_used_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.crate").write_text(RATE + UNUSABLE)
    found = model(text('"mine.crate"'), tmp_path).text
    assert RATE.strip() in found and "odd" not in found and "include" not in found.replace("# include", "")
    assert model(found).text == found


def test_a_remark_stays_beside_its_line() -> None:
    found = model(text("rates  # of tokens")).text
    assert f"# include rates  # of tokens\n{RATE[:20]}" in found and found.count("of tokens") == 1


@pytest.mark.parametrize("line", ["include codes  # for later\n", "include rates; include codes\n"])
def test_what_is_not_used_leaves_nothing_behind(line: str) -> None:
    """Neither a line that says so nor its remark; what is used stays."""
    own = line + (RATE if "rates" not in line else "")
    content = text(own=own).replace("lasso(A | Z, D)", "fit(A | Z, D)")
    fit = LASSO.replace("lasso", "fit")
    found = model(content.replace("input", fit + "input", 1)).text
    assert "codes" not in found and "later" not in found and ";\n" not in found.split("encoder")[0]
    assert model(found).text == found


@pytest.mark.parametrize("includes", ["include rates; include codes", "include rates # a remark\ninclude codes;"])
def test_the_resolved_spec_is_the_same_network(includes: str, tmp_path: Path) -> None:
    path, kept = tmp_path / "net.crate", tmp_path / "elsewhere" / "kept.crate"
    kept.parent.mkdir()
    path.write_text(text(own=includes + "\n").replace("lasso(A | Z, D)", "nonnegative_lasso(A | Z, D, lambda)"))
    first = compile_spec(path)
    kept.write_text(first.resolved)
    again = compile_spec(kept)
    assert again.resolved == first.resolved and body(again) == body(first)
    assert not again.model.warnings


def test_the_identity_covers_what_is_included(tmp_path: Path) -> None:
    path, mine = tmp_path / "net.crate", tmp_path / "mine.crate"
    path.write_text(text('"mine.crate"'))
    mine.write_text(RATE + UNUSABLE)
    first = compile_spec(path).text
    mine.write_text(RATE + UNUSABLE.replace("odd", "even"))
    assert compile_spec(path).text == first
    mine.write_text(RATE.replace("1/2", "1/3"))
    assert "spec_sha256" in first and body(compile_spec(path)) != first.partition("from __future__")[2]
    line = next(line for line in first.splitlines() if "spec_sha256 =" in line)
    assert line not in compile_spec(path).text


def test_the_page_links_to_the_lines_of_the_included_file(tmp_path: Path) -> None:
    path = tmp_path / "net.crate"
    path.write_text(text("rates"))
    html = page.html(compile_spec(path).derivation)
    assert 'href="#rates-crate-L' in html and 'id="rates-crate-L1"' in html and 'id="L1"' in html
    assert r"\subsection*{rates.crate}" in page.tex(compile_spec(path).derivation)


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["../mine.crate", "/etc/passwd", "a/../../mine.crate", "..crate", ".mine.crate", "~/mine.crate", "a//mine.crate",
     "C:mine.crate", r"a\mine.crate", "mine.txt", "", "mine.crate\x00", "./mine.crate", "file:///x.crate"],
)  # fmt: skip
def test_paths_that_lead_elsewhere(path: str, tmp_path: Path) -> None:
    (tmp_path / "mine.crate").write_text(RATE)
    (tmp_path / "inside").mkdir()
    assert "not a path that can be included" in refused(text(f'"{path}"'), tmp_path / "inside")


def test_links_that_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret.crate").write_text("the secret")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "link.crate").symlink_to(tmp_path / "secret.crate")
    (tmp_path / "inside" / "folder").symlink_to(tmp_path)
    for path in ("link.crate", "folder/secret.crate"):
        told = refused(text(f'"{path}"'), tmp_path / "inside")
        assert "leads out of the folder of the spec" in told and "the secret" not in told


def test_a_link_to_the_spec_is_the_spec(tmp_path: Path) -> None:
    (tmp_path / "t.crate").write_text(text('"link.crate"'))
    (tmp_path / "link.crate").symlink_to(tmp_path / "t.crate")
    assert "would include itself" in refused(text('"link.crate"'), tmp_path)


def test_names_and_links_that_cannot_be_followed(tmp_path: Path) -> None:
    assert "cannot read" in refused(text(f'"{"a" * 300}.crate"'), tmp_path)
    (tmp_path / "one.crate").symlink_to(tmp_path / "two.crate")
    (tmp_path / "two.crate").symlink_to(tmp_path / "one.crate")
    assert "one.crate" in refused(text('"one.crate"'), tmp_path)


def test_text_without_a_folder_includes_the_library_alone() -> None:
    assert "lies in no folder" in refused(text('"mine.crate"'))
    assert model(text("rates"))


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "mine.crate").write_bytes(b"\xff\xfe\x00")
    assert "it is not UTF-8 text" in refused(text('"mine.crate"'), tmp_path)
    (tmp_path / "folder.crate").mkdir()
    assert "there is no file" in refused(text('"folder.crate"'), tmp_path)


def test_what_is_too_much(tmp_path: Path) -> None:
    (tmp_path / "mine.crate").write_text("#" * (MAX_BYTES + 1))
    assert "too long to be included" in refused(text('"mine.crate"'), tmp_path)
    for number in range(MAX_FILES + 1):
        (tmp_path / f"f{number}.crate").write_text(f'include "f{number + 1}.crate"\n')
    assert "too many files" in refused(text('"f0.crate"'), tmp_path)


def test_a_clash_shows_both_places_also_of_energies_that_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "mine.crate").write_text(UNUSABLE)
    told = refused(text("rates", '"mine.crate"', own=LASSO + UNUSABLE.replace("q x r", "d x N")), tmp_path)
    assert (
        told.startswith('mine.crate:1:8: energy "odd" is declared twice') and "t.crate:8:8: the first is here" in told
    )


def test_errors_point_into_the_included_file(tmp_path: Path) -> None:
    (tmp_path / "mine.crate").write_text("# rates\n" + RATE.replace("' * Z))", " * Z))"))
    told = refused(text('"mine.crate"'), tmp_path)
    assert told.startswith("mine.crate:2:") and "it is used here" in told and "t.crate:5:1: it is included here" in told
