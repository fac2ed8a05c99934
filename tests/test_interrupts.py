"""Ctrl-C ends a command quietly from its first moment on, and programs that use the package keep their own ways."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crate_dsl import cli

ROOT = Path(__file__).parents[1]
INTERRUPTED = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\n"
COMMANDS = {
    "crate_dsl.cli": ("lark", "crate_dsl.cli"),
    "runtime.explore": ("torch", "runtime.explore"),
    "runtime.bench": ("torch", "runtime.bench"),
}


def interrupted(module: str, folder: Path, *words: str, ignored: bool = False) -> subprocess.CompletedProcess[str]:
    """Python with these words, where reading a module of this name is interrupted."""
    (folder / f"{module}.py").write_text(INTERRUPTED)
    path = os.pathsep.join((str(folder), str(ROOT)))
    handler = signal.SIG_IGN if ignored else signal.SIG_DFL  # a shell's background jobs hand on that it is ignored
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True,
        check=False, preexec_fn=lambda: signal.signal(signal.SIGINT, handler), timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupted_start_is_quiet(name: str, tmp_path: Path) -> None:
    module, command = COMMANDS[name]
    done = interrupted(module, tmp_path, "-m", command, "--help")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_the_installed_command_is_quiet_too(tmp_path: Path) -> None:
    script = tmp_path / "crate-compile"
    script.write_text("from crate_dsl.cli import entry\nentry()\n")
    done = interrupted("lark", tmp_path, str(script), "--help")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("words", [("-c", "import crate_dsl"), ("-m", "other")])
def test_a_program_that_uses_the_package_is_told_as_ever(words: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "__init__.py").write_text("import crate_dsl\n")
    (tmp_path / "other" / "__main__.py").touch()
    done = interrupted("lark", tmp_path, *words)
    assert done.stderr.endswith("KeyboardInterrupt\n")


def test_a_command_in_the_background_is_not_interrupted(tmp_path: Path) -> None:
    done = interrupted(
        "rich", tmp_path, "-c", "import signal, crate_dsl; print(signal.getsignal(signal.SIGINT))", ignored=True
    )
    assert done.stdout == f"{signal.SIG_IGN!s}\n"


def test_an_interrupted_compilation_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupt)
    assert cli.main(["any.crate"]) == 130
    assert capsys.readouterr() == ("", "")
