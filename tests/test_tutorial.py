"""The tutorial of the README, done as it stands: every file written, every command run, in a folder of its own.

A block of the section says by its fence what it is: `sh` holds commands, `crate NAME` and `python NAME` a file, `text`
what the command before prints (every line of it is looked for), `text measured` what a full training gave, which is not
compared. Commands that train get SHORT appended, which shortens them and nothing else.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEADING = "## Tutorial"
SHORT = ["epochs=null", "steps=4", "evaluate_every=4"]
TRAINS = ("runtime.train", "runtime.explore", "runtime.compare")
BLOCK = re.compile(r"^```(\w+)[ ]?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEAST = {"sh": 6, "crate": 1, "text": 3}  # blocks without which it would be no tutorial


@dataclass(frozen=True)
class Block:
    kind: str
    name: str
    text: str


class Broken(Exception):
    """The tutorial does not do what it says."""


def blocks(readme: str) -> list[Block]:
    """The blocks of the section, up to the next heading of its rank."""
    found = re.search(rf"^{HEADING}\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    if not found:
        raise Broken(f'no section "{HEADING}"')
    section = [Block(*match.groups()) for match in BLOCK.finditer(found.group(1))]
    for kind, least in LEAST.items():
        if sum(block.kind == kind for block in section) < least:
            raise Broken(f"fewer than {least} blocks of the kind {kind}")
    if unknown := {block.kind for block in section} - {*LEAST, "python"}:
        raise Broken(f"blocks of an unknown kind: {unknown}")
    return section


def carry_out(section: list[Block], folder: Path) -> int:
    """Do what the section says; returns the number of commands that ran."""
    printed, count = "", 0
    for block in section:
        if block.kind == "sh":
            outputs = [run(line, folder) for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]
            printed, count = "\n".join(outputs), count + len(outputs)
        elif block.kind == "text":
            compare(block, printed)
        else:
            (folder / block.name).write_text(block.text, encoding="utf-8")
    return count


def run(line: str, folder: Path) -> str:
    """One command, with everything that it prints."""
    words = shlex.split(line, comments=True)
    programs = {"crate-compile": [sys.executable, "-m", "crate_dsl.cli"], "python": [sys.executable]}
    command = [*programs.get(words[0], words[:1]), *words[1:]]
    if any(word in TRAINS for word in words) and not {"--list", "--dry-run"} & set(words):
        command += SHORT
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"{line}: status {done.returncode}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}")
    return done.stdout + done.stderr


def compare(block: Block, printed: str) -> None:
    """Every line of a block occurs in what was printed; blanks do not count, `...` leaves something out."""
    if block.name == "measured":
        return
    have = squeezed(printed)
    for line in block.text.splitlines():
        for part in filter(None, map(squeezed, line.split("..."))):
            if part not in have:
                raise Broken(f"not printed: {line}\nbut:\n{printed[-3000:]}")


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def test_the_tutorial(tmp_path: Path) -> None:
    assert carry_out(blocks((ROOT / "README.md").read_text(encoding="utf-8")), tmp_path) >= 7


# ---- it can fail -----------------------------------------------------------------------------------------------------

FILES = "```crate a.crate\nnetwork\n```\n"
SHOWN = "```text\nhello\n```\n" * 3
GOOD = f"{HEADING}\n\n" + FILES + "```sh\necho hello\n```\n" * 6 + SHOWN + "## Next\n\n```sh\nfalse\n```\n"
OFFENDERS = {
    "no section": (GOOD.replace(HEADING, "## Guide"), 'no section "## Tutorial"'),
    "a section without blocks": (f"{HEADING}\n\nwords\n\n## Next\n", "fewer than 6 blocks of the kind sh"),
    "a block of no known kind": (GOOD.replace("```crate", "```bash x\n```\n```crate"), "unknown kind"),
    "a command that fails": (GOOD.replace("echo hello\n", "echo hello\nfalse\n", 1), "false: status 1"),
    "a spec that is wrong": (
        GOOD.replace("echo hello\n", "crate-compile a.crate\n", 1),
        "crate-compile a.crate: status 1",
    ),
    "a command that is not there": (GOOD.replace("echo hello\n", "python -m runtime.absent\n", 1), "status 1"),
    "output that is not printed": (GOOD.replace("```text\nhello", "```text\ngoodbye", 1), "not printed: goodbye"),
}


@pytest.mark.parametrize("name", OFFENDERS)
def test_an_offender_is_found(name: str, tmp_path: Path) -> None:
    readme, message = OFFENDERS[name]
    with pytest.raises(Broken, match=message):
        carry_out(blocks(readme), tmp_path)


def test_what_is_right_passes(tmp_path: Path) -> None:
    assert carry_out(blocks(GOOD), tmp_path) == 6
    measured = GOOD.replace("```text\nhello", "```text measured\ngoodbye", 1)
    assert carry_out(blocks(measured), tmp_path) == 6
