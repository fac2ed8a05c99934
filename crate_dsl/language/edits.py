"""Edits of a spec's text at the places that its syntax tree names: what is not edited stays as the user wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from crate_dsl.errors import Span
from crate_dsl.language import syntax

BEHIND = re.compile(r"[ \t]*;?[ \t]*(#[^\n]*)?(?=\n|\Z)")  # what may follow on the line of an option that has it alone


@dataclass(frozen=True)
class Edit:
    """`text[start:end]` becomes `new`."""

    start: int
    end: int
    new: str


def edited(text: str, edits: Iterable[Edit]) -> str:
    """The text with edits applied; of neighbours that both take away the separator between them, one does."""
    rest = len(text)
    for edit in sorted(edits, key=lambda edit: edit.start, reverse=True):
        text = text[: edit.start] + edit.new + text[min(edit.end, rest) :]
        rest = edit.start
    return text


def removed(span: Span) -> Edit:
    """Take an option away: with its line and comment where it has the line alone, else with one separator."""
    text, start, end = span.source.text, span.start, span.end
    line = own_line(span)
    if line:
        return Edit(line[0], min(line[1] + 1, len(text)), "")
    if after := re.compile(r"[ \t]*;[ \t]*").match(text, end):
        return Edit(start, after.end(), "")
    before = re.search(r"[ \t]*;[ \t]*\Z", text[:start])
    return Edit(before.start() if before else start, end, "")


def replaced(span: Span, new: str) -> Edit:
    """Put other words in the place of an option; a comment on its own line spoke of the old ones, so it goes."""
    line = own_line(span)
    if span.text == new:
        return Edit(span.end, span.end, "")
    return Edit(span.start, line[1] if line else span.end, new)


def own_line(span: Span) -> tuple[int, int] | None:
    """Where the line of an option starts and ends, None where something else stands on it too."""
    text = span.source.text
    start = text.rfind("\n", 0, span.start) + 1
    behind = BEHIND.match(text, span.end)
    return (start, behind.end()) if behind and not text[start : span.start].strip() else None


def added(statement: syntax.StepStatement, new: str, before: syntax.Node | None, after: syntax.Node | None) -> Edit:
    """Put an option into a step: after one of its options, else before one, else as the first."""
    if after:
        return _beside(after.span, new, behind=True)
    if before:
        return _beside(before.span, new, behind=False)
    return Edit(statement.use.span.end, statement.span.end, f" {{ {new} }}")  # without options, or with empty braces


def _beside(anchor: Span, new: str, behind: bool) -> Edit:
    """On a line of its own where the anchor has one, with its indentation; else on the same line."""
    line = own_line(anchor)
    if line is None:
        place = anchor.end if behind else anchor.start
        return Edit(place, place, f"; {new}" if behind else f"{new}; ")
    indent = anchor.source.text[line[0] : anchor.start]
    if behind:
        return Edit(line[1], line[1], f"\n{indent}{new}")
    return Edit(line[0], line[0], f"{indent}{new}\n")
