"""`crate-compile --graph` as a user meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from crate_dsl.cli import main
from crate_dsl.pictures.picture import FORMATS
from tests.pictures.drawings import ROOT

CRATE = str(ROOT / "specs/crate.crate")


def test_pictures_are_written_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "deep" / f"crate{ending}" for ending in FORMATS]
    options = [word for file in files for word in ("--graph", str(file))]
    assert main([CRATE, "--preset", "tiny", *options]) == 0
    out, err = capsys.readouterr()
    assert out == "" and all(f"wrote {file}" in err for file in files)
    assert sorted(files) == sorted((tmp_path / "deep").iterdir())
    assert all("compress Z by rate(Z, U)" in file.read_text() for file in files)


def test_a_picture_beside_other_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, model = tmp_path / "a.svg", tmp_path / "a.py"
    assert main([CRATE, "--preset", "digits", "--graph", str(picture), "-o", str(model), "--summary"]) == 0
    assert "class Crate(" in model.read_text() and picture.exists()
    assert "FLOPs per" in capsys.readouterr().out
    picture.unlink()
    assert main([CRATE, "--preset", "digits", "--graph", str(picture), "--emit", "source"]) == 0
    assert "class Crate(" in capsys.readouterr().out and picture.exists()


def test_an_unknown_ending_is_told_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "a.svg", tmp_path / "a.mermad"
    assert main([CRATE, "--graph", str(good), "--graph", str(bad)]) == 1
    err = capsys.readouterr().err
    assert 'Did you mean ".mermaid"?' in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main([CRATE, "--preset", "tiny", "--graph", str(tmp_path / "file" / "a.svg")]) == 1
    assert "cannot write" in capsys.readouterr().err


def test_help_names_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--graph FILE" in text and "FILE.svg, .mmd (Mermaid) or .dot" in text
