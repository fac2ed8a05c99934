"""What goes wrong around a run: each has one clear message, and nothing already saved is lost."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runtime import train
from runtime.errors import UserError
from runtime.storage import checkpoint
from tests.runtime.conftest import RECIPES, SPECS, TINY, Train
from tests.runtime.test_resume import assert_same_end


def flip(file: Path) -> None:
    """Damage a byte within the largest tensor: what a failing disk does, and torch's reader does not notice."""
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        values = archive.read(largest)
    content = bytearray(file.read_bytes())
    content[content.index(values) + len(values) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [flip, cut, remove])
def test_a_damaged_checkpoint_falls_back(damage: object, tiny_run: Train, capsys: pytest.CaptureFixture[str]) -> None:
    run, straight = tiny_run("crate", steps=6), tiny_run("crate", steps=6, name="straight")
    damage(run / "checkpoint.pt")  # of step 6; the one before is of step 3
    train.main(["--resume", str(run)])
    printed = capsys.readouterr().out
    assert "checkpoint.pt" in printed and "going on from the checkpoint before it, checkpoint.before.pt" in printed
    assert "resumed after step 3 of 6" in printed
    assert_same_end(straight, run)


def test_two_damaged_checkpoints_are_one_message(tiny_run: Train) -> None:
    run = tiny_run("crate", steps=6)
    for name in ("checkpoint.pt", "checkpoint.before.pt"):
        flip(run / name)
    with pytest.raises(UserError, match="checkpoint.before.pt: not a readable training state: the checksum of"):
        train.main(["--resume", str(run)])


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """The largest file that the process may write is too small for the second checkpoint, as on a full disk."""
    run, size = tmp_path / "run", [word for word in TINY if not word.startswith(("sizes.d", "evaluate", "checkpoint"))]
    words = [str(SPECS / "crate.crate"), "--recipe", RECIPES["crate"], "--out", str(run), *size, "sizes.d=64"]
    command = [sys.executable, "-m", "runtime.train", *words, "epochs=null", "evaluate_every=90", "checkpoint_every=2"]
    done = subprocess.run([*command, "steps=2"], capture_output=True, text=True, cwd=SPECS.parent)
    assert done.returncode == 0, done.stderr
    kept = {file.name: file.read_bytes() for file in run.glob("*.pt")}
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("steps: 2\n", "steps: 4\n"))
    limit = (run / "checkpoint.pt").stat().st_size // 2
    resume = [sys.executable, "-m", "runtime.train", "--resume", str(run)]
    full = subprocess.run(
        resume,
        capture_output=True,
        text=True,
        cwd=SPECS.parent,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert full.returncode == 1 and "Traceback" not in full.stderr
    assert "cannot be written" in full.stderr and "what was there before is untouched" in full.stderr
    assert {file.name: file.read_bytes() for file in run.glob("*.pt")} == kept
    assert not list(run.glob(".*"))
    done = subprocess.run(resume, capture_output=True, text=True, cwd=SPECS.parent)
    assert done.returncode == 0, done.stderr
    assert checkpoint.read_state(run / "checkpoint.pt")["step"] == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for the superuser")
def test_an_unwritable_folder_is_one_message(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be made a run folder: Permission denied"):
        train.main([str(SPECS / "crate.crate"), "--out", str(tmp_path / "run"), *TINY])
