"""Sources, places in them, and the errors that a user sees.

An error is a value: a message, a place, what would be right, and further places that matter (both origins of a
size clash, say). Deep code states the fact; only this file decides how it looks.
"""

from __future__ import annotations

import io
import sys
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

WIDTH = 160  # of the part of a line that is shown


@dataclass(frozen=True)
class Source:
    """The text of one `.crate` file and the name under which the user knows it.

    `folder` is where the files lie that it may include by a path, None for text that comes from no folder; `asked` is
    the `include` line that brought this file, None for the spec itself.
    """

    name: str
    text: str = field(repr=False)
    folder: Path | None = field(default=None, repr=False, compare=False)
    asked: Span | None = field(default=None, repr=False, compare=False)

    def position(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of a character offset."""
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1

    @property
    def end(self) -> Span:
        """The empty place behind everything that is written."""
        written = len(self.text.rstrip())
        return Span(self, written, written)

    def line(self, number: int) -> str:
        lines = self.text.split("\n")
        return lines[number - 1] if number <= len(lines) else ""


@dataclass(frozen=True)
class Span:
    """A piece of a source, `text[start:end]`."""

    source: Source = field(repr=False)
    start: int
    end: int

    def __str__(self) -> str:
        line, column = self.source.position(self.start)
        return f"{self.source.name}:{line}:{column}"

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        return Span(self.source, self.start, other.end)

    def frame(self) -> str:
        """The line of the place with carets below it; of a very long line, the part around the place."""
        line, column = self.source.position(self.start)
        text = self.source.line(line)
        first = max(0, column - 1 - WIDTH // 2) if len(text) > WIDTH else 0
        text, before = printable(text[first : first + WIDTH]), column - 1 - first
        width = max(1, min(self.end - self.start, len(text) - before))
        return f"{line:5} | {text}\n      | {' ' * before}{'^' * width}"


def harmless(text: str) -> str:
    """A text for a terminal: control characters other than ends of lines and tabs are replaced."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else "\N{REPLACEMENT CHARACTER}" for c in text)


def show_what_can_be_shown() -> None:
    """Let a terminal that lacks a letter show another one in its place, not fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def printable(text: str) -> str:
    """Tabs and control characters become one blank each: carets stay in place, and no terminal is steered by a file."""
    return "".join(character if character.isprintable() else " " for character in text)


@dataclass(frozen=True)
class Diagnostic:
    """One message for the user: where, what is wrong, and what would be right."""

    message: str
    span: Span | None = None
    hint: str = ""
    notes: tuple[tuple[Span, str], ...] = ()
    severity: str = "error"

    def __str__(self) -> str:
        word = "" if self.severity == "error" else f"{self.severity}: "
        lines = [f"{self.span}: {word}{self.message}", self.span.frame()] if self.span else [f"{word}{self.message}"]
        asked = self.span.source.asked if self.span else None
        for span, text in (*self.notes, *([(asked, "it is included here")] if asked else [])):
            lines += [f"{span}: {text}", span.frame()]
        return "\n".join(lines + ([self.hint] if self.hint else []))


class CrateError(Exception):
    """What the user wrote cannot be compiled; carries every diagnostic found, in the order of the file."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n\n".join(map(str, diagnostics)))


class CompilerBug(Exception):
    """An invariant of the compiler itself was broken: never the user's fault."""

    def __str__(self) -> str:
        return f"this is a bug of the compiler, please report it with your spec: {super().__str__()}"


def fail(message: str, span: Span | None = None, hint: str = "", notes: Iterable[tuple[Span, str]] = ()) -> CrateError:
    """A `CrateError` of one diagnostic, to be raised by the caller."""
    return CrateError(Diagnostic(message, span, hint, tuple(notes)))


def known(kind: str, name: str, names: Iterable[str]) -> str:
    """The hint under an unknown name: what exists, and the nearest of it.

    >>> known("energies", "rat", ["rate", "lasso"])
    'known energies: lasso, rate. Did you mean "rate"?'
    """
    choices = sorted(names)
    if not choices:
        return f"there are no {kind} here"
    near = get_close_matches(name, choices, n=1)
    suggestion = f' Did you mean "{near[0]}"?' if near else ""
    return f"known {kind}: {', '.join(choices)}." + suggestion
