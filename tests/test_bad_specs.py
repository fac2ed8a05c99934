"""Wrong specs and what a user is told about them: one transcript, as in stanc3.

A file may name options of the command line in its first line, `# --set d=abc --preset tiny`. After a change of
messages: `pytest tests/test_bad_specs.py --update`, then read the difference with the eye of a user.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from crate_dsl.errors import CrateError, Source
from crate_dsl.language.check import check
from crate_dsl.language.model import Model
from crate_dsl.language.parse import grammar, parse
from crate_dsl.library.vocabulary import VOCABULARY
from crate_dsl.mathematics.derive import derive

FOLDER = Path(__file__).parent / "bad_specs"
TRANSCRIPT = FOLDER / "transcript.txt"
FILES = sorted(FOLDER.glob("*.crate"))
WARNED = [path for path in FILES if path.name.startswith("warning_")]
WRONG = [path for path in FILES if path not in WARNED]


def compiled(path: Path) -> Model:
    """Parse, check and derive a file with the options that its first line names."""
    text = path.read_text(encoding="utf-8")
    preset, overrides = None, {}
    words = shlex.split(text.partition("\n")[0].removeprefix("#")) if text.startswith("# --") else []
    for option, value in zip(words[::2], words[1::2], strict=True):
        if option == "--preset":
            preset = value
        else:
            name, _, overrides[name] = value.partition("=")
    model = check(parse(Source(path.name, text, path.parent)), VOCABULARY, preset, overrides)
    derive(model)
    return model


def told(path: Path) -> str:
    """What a user would read."""
    try:
        return "\n\n".join(map(str, compiled(path).warnings))
    except CrateError as error:
        return str(error)


def transcript() -> str:
    return "\n".join(f"{'=' * 20} {path.name}\n{told(path)}\n" for path in FILES)


def test_transcript(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update"):
        TRANSCRIPT.write_text(transcript(), encoding="utf-8")
    assert transcript() == TRANSCRIPT.read_text(encoding="utf-8"), "read the difference, then use --update"


def test_there_are_many() -> None:
    assert len(WRONG) >= 70


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_is_refused(path: Path) -> None:
    """With a place for every message, in the order of the file."""
    with pytest.raises(CrateError) as caught:
        compiled(path)
    assert all(diagnostic.span is not None for diagnostic in caught.value.diagnostics)


@pytest.mark.parametrize("path", WARNED, ids=lambda path: path.stem)
def test_is_warned_about(path: Path) -> None:
    warnings = compiled(path).warnings
    assert warnings and all(warning.severity == "warning" for warning in warnings)


def leaked_terminals(text: str) -> list[str]:
    """Names of terminals that a message must not hold; quoted lines of the specs are left out."""
    told = "\n".join(line for line in text.splitlines() if " | " not in line)
    names = "|".join([*(re.escape(terminal.name) for terminal in grammar().terminals), r"__\w+", r"\$END"])
    return re.findall(rf"(?<!\w)(?:{names})(?!\w)", told)


def test_no_terminal_leaks() -> None:
    assert leaked_terminals(transcript()) == []


def test_a_leak_would_be_noticed() -> None:
    assert leaked_terminals("expected RIGHT_PARENTHESIS or __ANON_3") == ["RIGHT_PARENTHESIS", "__ANON_3"]


def test_no_traceback() -> None:
    assert "Traceback" not in transcript()
