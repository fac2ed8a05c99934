"""Collects what the checker finds, so that one run shows every mistake; and small tools for places and names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass, replace

from crate_dsl.errors import CrateError, Diagnostic, Source, Span
from crate_dsl.language import syntax
from crate_dsl.language.model import TAKEN

Notes = Iterable[tuple[Span, str]]
MAX_ERRORS = 50


class TooMany(Exception):
    """So many errors have been found that further ones would not help."""


class Report:
    """Errors and warnings in the order found; a message is kept once."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.errors: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []

    def error(self, message: str, span: Span | None, hint: str = "", notes: Notes = ()) -> None:
        self.absorb(Diagnostic(message, span, hint, tuple(notes)))

    def warn(self, message: str, span: Span, hint: str = "") -> None:
        self.warnings.append(Diagnostic(message, span, hint, severity="warning"))

    def absorb(self, *diagnostics: Diagnostic) -> None:
        self.errors += [diagnostic for diagnostic in diagnostics if diagnostic not in self.errors]
        if len(self.errors) >= MAX_ERRORS:
            raise TooMany

    def add_note(self, first: int, note: tuple[Span, str]) -> None:
        """Put a further place under every error from number `first` on."""
        self.errors[first:] = [replace(error, notes=(*error.notes, note)) for error in self.errors[first:]]

    def finish(self) -> tuple[Diagnostic, ...]:
        """The warnings.

        Raises:
            CrateError: with all errors, sorted by place, those of the command line and of included files first.
        """
        if self.errors:
            raise CrateError(*self.sorted_errors())
        return tuple(sorted(self.warnings, key=self._place))

    def sorted_errors(self) -> list[Diagnostic]:
        return sorted(self.errors, key=self._place)

    def _place(self, diagnostic: Diagnostic) -> tuple[bool, int]:
        span = diagnostic.span
        in_file = span is not None and span.source is self.source
        return (in_file, span.start if in_file else 0)


def may_be_declared(name: str, place: Span, first: Span | None, report: Report) -> bool:
    """Whether a name is free; complains where it has a meaning already, from a `first` place or from the language."""
    if first:
        report.error(f'"{name}" is declared twice', place, "", [(first, "the first is here")])
    elif name in TAKEN:
        report.error(TAKEN[name], place)
    return first is None and name not in TAKEN


def within(span: Span, name: str, occurrence: int = 0) -> Span:
    """The place of a name inside a span, or the span itself where it is not found."""
    text = span.text
    places = list(re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text))
    if len(places) <= occurrence:
        return span
    start = span.start + places[occurrence].start()
    return Span(span.source, start, start + len(name))


def names_in(node: object) -> Iterator[str]:
    """Every name that a piece of syntax refers to; the arguments of an energy are its own."""
    own: set[str] = set()
    if isinstance(node, syntax.EnergyDeclaration):
        own = {argument.name for argument in node.variables + node.given}
    for name in _names(node):
        if name not in own:
            yield name


def _names(node: object) -> Iterator[str]:
    if isinstance(node, syntax.Name):
        yield node.name
    if isinstance(node, syntax.FamilySum | syntax.FamilySoftmax):
        yield node.family
    if isinstance(node, syntax.LetOption) and node.family:
        yield node.family
    if isinstance(node, tuple):
        for part in node:
            yield from names_in(part)
    elif is_dataclass(node) and not isinstance(node, Span):
        for field in fields(node):
            yield from names_in(getattr(node, field.name))


def counted(count: int, word: str) -> str:
    """`1 argument`, `2 arguments`, `no arguments`."""
    return f"{count or 'no'} {word}{'' if count == 1 else 's'}"


def shown(value: object, limit: int = 40) -> str:
    """A value that fits into a line of a message."""
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
