"""Where the parser stopped, and what stands around that place."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from lark import Token

from crate_dsl.errors import Diagnostic, Source, Span
from crate_dsl.language.layout import OPENING, SEPARATORS, Item
from crate_dsl.language.report import shown


@dataclass(frozen=True)
class Place:
    """Where the parser stopped: before `tokens[index]`, or at the end; `accepts` are the terminals that could go on."""

    source: Source = field(repr=False)
    item: Item
    index: int
    accepts: frozenset[str]

    @property
    def tokens(self) -> tuple[Token, ...]:
        return self.item.tokens

    @property
    def kind(self) -> str:
        return self.kind_at(0)

    def kind_at(self, distance: int) -> str:
        place = self.index + distance
        return self.tokens[place].type if 0 <= place < len(self.tokens) else "$END" if place >= 0 else ""

    def text_at(self, distance: int) -> str:
        place = self.index + distance
        return shown(self.tokens[place]) if 0 <= place < len(self.tokens) else ""

    @property
    def ended(self) -> bool:
        return self.kind in SEPARATORS or self.kind == "$END"

    @property
    def opening(self) -> str:
        """The word that the item starts with."""
        return self.tokens[0].type

    @cached_property
    def open_brackets(self) -> list[Token]:
        """Brackets and braces open before the place, outermost first."""
        stack: list[Token] = []
        for token in self.tokens[: self.index]:
            if token.type in OPENING or token.type == "LEFT_BRACE":
                stack.append(token)
            elif token.type.startswith("RIGHT_") and stack:
                stack.pop()
        return stack

    @property
    def braces(self) -> list[Token]:
        return [token for token in self.open_brackets if token.type == "LEFT_BRACE"]

    @property
    def statement(self) -> list[Token]:
        """The tokens of the innermost statement before the place."""
        start = self.index
        while start and self.tokens[start - 1].type not in SEPARATORS | {"LEFT_BRACE"}:
            start -= 1
        return list(self.tokens[start : self.index])

    def span_of(self, token: Token) -> Span:
        return Span(self.source, token.start_pos, token.end_pos)

    @property
    def span(self) -> Span:
        if not self.ended and self.index < len(self.tokens):
            return self.span_of(self.tokens[self.index])
        return self.after

    @property
    def after(self) -> Span:
        """The empty place right after what was read."""
        end = self.tokens[self.index - 1].end_pos if self.index else self.tokens[0].start_pos
        return Span(self.source, end, end)

    @property
    def found(self) -> str:
        return "the end of the line" if self.ended else f'"{self.text_at(0)}"'

    @property
    def first_word(self) -> str:
        """The first word of the innermost statement."""
        words = self.statement or self.tokens[self.index : self.index + 1]
        return str(words[0]) if words else ""

    def says(self, message: str, hint: str = "", span: Span | None = None) -> Diagnostic:
        return Diagnostic(message, span or self.span, hint)
