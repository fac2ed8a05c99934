"""crate-compile as a user meets it: files, exit status, messages, speed of the right things."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from crate_dsl.cli import main
from tests.specs import small_preset

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "specs").glob("*.crate"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        status = main(list(arguments))
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return status, captured.out, captured.err


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_passes_its_certificate(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, str(path), "--preset", small_preset(path.read_text()), "--check")
    assert status == 0
    assert "verified" in out and "FAILED" not in out


def test_a_certificate_says_what_its_numbers_are(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, str(ROOT / "specs/crate.crate"), "--preset", "digits", "--check")
    first, meaning, *_ = out.splitlines()
    assert first == "Crate: 9 exact claims, 0 failed" and meaning.startswith("numbers are relative errors")


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_opens_with_what_it_is_and_from_where(path: Path) -> None:
    lines = path.read_text().splitlines()
    comment = " ".join(line[1:].strip() for line in lines[: next(n for n, x in enumerate(lines) if x[:1] != "#")])
    assert re.search(r"(et al\.|arXiv)", comment) and comment.endswith(".")
    assert len(lines) <= 60


@pytest.mark.parametrize("stage", ["spec", "model", "derivation", "graph", "passes", "optimised", "source"])
def test_every_stage_can_be_printed(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, str(ROOT / "specs/crate_mae.crate"), "--preset", "digits", "--emit", stage)
    assert status == 0 and len(out) > 500


def test_output_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "deep" / "model.py"
    status, _, err = run(capsys, str(ROOT / "specs/crate.crate"), "--preset", "tiny", "-o", str(target), "--summary")
    assert status == 0 and str(target) in err
    assert "class Crate(" in target.read_text()
    assert [path.name for path in target.parent.iterdir()] == ["model.py"]


def test_frozen_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file says so, the table leaves work on weights out, and the split graphs are printed."""
    spec, target = str(ROOT / "specs/crate.crate"), tmp_path / "model.py"
    status, frozen, _ = run(capsys, spec, "--preset", "tiny", "--freeze", "-o", str(target), "--summary")
    assert status == 0 and "\nFrozen" in target.read_text() and "without what is made of weights" in frozen
    assert frozen.replace("; frozen: without what is made of weights once", "") != run(capsys, spec, "--summary")[1]
    status, graphs, _ = run(capsys, spec, "--preset", "tiny", "--freeze", "--emit", "optimised")
    assert status == 0 and "graph encoder.sparsify.fold" in graphs and "normalised(Z)" in graphs


def test_networks_for_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    status, text, _ = run(capsys, str(ROOT / "specs/crate.crate"), "--gpu")
    assert status == 0 and "import triton\n" in text and "= kernel_attention(w, scale=" in text


@pytest.mark.parametrize("name", ["crate", "crate_exact", "crate_mae", "crate_gpt_exact", "tost_causal", "redunet"])
def test_frozen_networks_pass_their_certificate(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "specs" / f"{name}.crate"
    status, out, _ = run(capsys, str(path), "--preset", small_preset(path.read_text()), "--check", "--freeze")
    assert status == 0 and "folded and frozen graphs" in out


def test_the_energies_of_the_library_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "--energies")
    assert status == 0 and out.startswith("include attention\n") and "    rate(Z: d x N, U: K of d x p)\n" in out


def test_the_list_of_energies_is_written_where_output_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed, target = run(capsys, "--energies")[1], tmp_path / "energies.txt"
    for arguments in (["--energies", "-o", str(target)], ["-o", str(target), "--energies"]):
        assert run(capsys, *arguments) == (0, "", f"wrote {target}\n")
        assert target.read_text() == listed
        target.unlink()


def test_a_dash_is_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for what in (["--energies"], [str(ROOT / "specs/crate.crate"), "--preset=digits", "--explain"]):
        assert run(capsys, *what, "-o", "-") == run(capsys, *what)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("beside", ["--check", "--summary", "--graph=x.svg", str(ROOT / "specs/crate.crate")])
def test_the_list_of_energies_stands_alone(beside: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "--energies", beside)
    assert status == 1 and not out and "--energies" in err


@pytest.mark.parametrize("what", ["--check", "--explain", "--explain-speed", "--emit=model"])
def test_what_is_printed_is_written_where_output_says(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "told.txt"
    status, out, _ = run(capsys, str(ROOT / "specs/crate.crate"), "--preset=digits", what, "-o", str(target))
    assert status == 0 and not out and len(target.read_text()) > 200


def test_the_loss_is_explained_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(ROOT / "specs/crate_srr.crate")
    loss = "cross_entropy + weight * sparse_rate_reduction(Z, U, epsilon, lambda)"
    explained = " ".join(run(capsys, path, "--preset", "digits", "--explain")[1].split())
    assert f"loss {loss}" in explained and "on the tokens that leave each layer of the encoder" in explained
    counted = run(capsys, path, "--preset", "digits", "--summary")[1]
    assert f"loss: {loss}; its penalty adds 1.74 M FLOPs per image in training" in counted


@pytest.mark.parametrize("ending", ["txt", "md"])
def test_what_each_pass_gained(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / f"speed.{ending}"
    assert run(capsys, str(ROOT / "specs/crate.crate"), "--explain-speed", "-o", str(target))[0] == 0
    text = target.read_text()
    assert "encoder.compress, 12 layers, N 197" in text and "as lowered" in text and "as written" in text
    assert text.startswith("```text") == text.endswith("```\n") == (ending == "md")


def test_passes_decide_for_the_batch(capsys: pytest.CaptureFixture[str]) -> None:
    path, few, many = str(ROOT / "specs/crate.crate"), ("--batch", "1"), ("--batch", "64")
    one, all_at_once = (run(capsys, path, "--preset", "digits", *batch)[1] for batch in (few, many))
    assert "weights are collected in M" in all_at_once and "weights are collected in M" not in one
    tables = [
        run(capsys, path, "--preset", "digits", *batch, "--summary", "--explain-speed")[1] for batch in (few, many)
    ]
    assert all(f"over {batch[1]} image" in text for batch, text in zip((few, many), tables, strict=True))


@pytest.mark.parametrize("ending", ["txt", "md", "tex", "html"])
def test_explanations(ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / f"page.{ending}"
    assert run(capsys, str(ROOT / "specs/crate.crate"), "--explain", "-o", str(target))[0] == 0
    assert len(target.read_text()) > 2000


def test_a_failed_compilation_leaves_the_old_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, target = tmp_path / "bad.crate", tmp_path / "model.py"
    bad.write_text((ROOT / "specs/crate.crate").read_text().replace("by rate(", "by rat("))
    target.write_text("old")
    status, _, err = run(capsys, str(bad), "-o", str(target))
    assert status == 1 and target.read_text() == "old"
    assert 'Did you mean "rate"?' in err and "^^^" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.crate"], "no spec file"),
        (["specs/crate.crate", "--set", "d"], "name=value"),
        (["specs/crate.crate", "--set", "dd=3"], "dd"),
        (["specs/crate.crate", "--set", "d=100"], "not a whole number"),
        (["specs/crate.crate", "--preset", "tinny"], 'Did you mean "tiny"?'),
        (["specs/crate.crate", "--explain", "-o", "x.pdf"], ".html"),
        (["specs/crate.crate", "--explain-speed", "-o", "x.html"], ".txt, .md"),
        (["specs/crate.crate", "--explain-speed", "--check"], "not allowed with argument --explain-speed\n"),
        (["specs/crate.crate", "--set", "eta=1e400"], "exponents of at most 60"),
        (["specs/crate.crate", "-o", "tests"], "it is a folder"),
        (["specs/crate.crate", "-o", ""], "it is a folder"),
        (["specs/crate.crate", "--batch", "0"], '--batch takes a positive whole number, not "0"'),
        (["specs/crate.crate", "--batch", "-3"], '--batch takes a positive whole number, not "-3"'),
        (["specs/crate.crate", "--batch", "2.5"], '--batch takes a positive whole number, not "2.5"'),
        (["specs/crate.crate", "--batch", "9" * 5000], "--batch takes"),
        (["specs/crate.crate", "--sumary"], "--summary"),
        (["specs/crate.crate", "--emit", "grph"], "invalid choice"),
        (["specs"], "cannot read"),
        ([], "required"),
    ],
)
def test_bad_calls(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    status, _, err = run(capsys, *arguments)
    assert status == 1
    assert message in err


@pytest.mark.parametrize(("spec", "status"), [("crate.crate", 0), ("nowhere.crate", 1)])
def test_the_process_ends_with_everything_printed(spec: str, status: int) -> None:
    command = [sys.executable, "-m", "crate_dsl.cli", f"specs/{spec}", "--preset", "tiny"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stdout.endswith("return found\n") if status == 0 else "no spec file" in done.stderr


def test_links_rights_and_pipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link stays one, a file keeps its rights, and what is no file is written to, not replaced."""
    kept, link, pipe = (tmp_path / name for name in ("kept.py", "link.py", "pipe"))
    kept.write_text("")
    kept.chmod(0o600)
    link.symlink_to(kept)
    os.mkfifo(pipe)
    spec = str(ROOT / "specs/crate.crate")
    assert run(capsys, spec, "-o", str(link))[0] == 0
    assert link.is_symlink() and "class Crate(" in kept.read_text() and kept.stat().st_mode & 0o777 == 0o600
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    assert run(capsys, spec, "-o", str(pipe))[0] == 0
    assert reader.communicate(timeout=30)[0] == kept.read_text() and pipe.is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"kept.py", "link.py", "pipe"}


def test_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    status, _, err = run(capsys, str(ROOT / "specs/crate.crate"), "-o", str(tmp_path / "file" / "model.py"))
    assert status == 1 and "cannot write" in err


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"^(crate-compile .*)$", text, re.M) + re.findall(r"`(crate-compile [^`]*)`", text)
    return sorted({re.sub(r"\s+", " ", command.split("#")[0]).strip() for command in found if "specs/" in command})


@pytest.mark.parametrize("command", readme_commands())
def test_commands_of_the_readme(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "specs", tmp_path / "specs")
    monkeypatch.chdir(tmp_path)
    assert run(capsys, *shlex.split(command)[1:])[0] == 0


@pytest.mark.parametrize(("word", "right"), [("d=8", "--set d=8"), ("preset=tiny", "--preset tiny")])
def test_a_size_without_its_option(word: str, right: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = run(capsys, "specs/crate.crate", word)
    assert status == 1 and err.endswith(f"unrecognized arguments: {word}. Did you mean {right}?\n")


def test_a_size_as_recipes_write_it(capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(ROOT / "specs/crate.crate"), "--preset", "tiny", "--set"]
    assert run(capsys, *words, "sizes.L=2") == run(capsys, *words, "L=2")
