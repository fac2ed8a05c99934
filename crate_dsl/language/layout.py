"""Where one item of a file ends and the next begins, and which newlines mean something.

A newline separates two items or two statements of a block, and nothing else: it is dropped inside parentheses, after an
operator, `=`, `,`, `{`, `|`, and before a line that starts with a binary operator. Items are parsed one by one, so that
one mistake costs one item; therefore a missing bracket must not swallow the rest of the file, and a line that starts
with the word of an item ends whatever stands open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from lark import Token

ITEM_WORDS = {"NETWORK", "SIZE", "REAL", "PRESET", "LEARN", "ENERGY", "INPUT", "TOKENS", "MASK", "NORM", "HEAD", "INIT",
              "ENCODER", "DECODER", "INCLUDE", "LOSS", "STOCHASTIC", "CLASS"}  # fmt: skip
VERBS = {"COMPRESS", "SPARSIFY", "DENOISE", "DESCEND", "ASCEND", "PROX", "SOLVE", "PROJECT"}
OPTION_WORDS = {"NORM", "FROM", "STEP", "STEPS", "ACCELERATE", "RESIDUAL", "READ", "CAUSAL", "INIT", "LET", "GIVEN"}
BLOCK_WORDS = VERBS | OPTION_WORDS | {"LEARN", "SHARED"}
OPERATORS = {"PLUS", "MINUS", "TIMES", "DIVIDE", "POWER", "DOT_PLUS", "DOT_TIMES", "DOT_DIVIDE", "DOT_POWER"}
OPENING = {"LEFT_PARENTHESIS", "LEFT_BRACKET"}
CLOSING = {"RIGHT_PARENTHESIS", "RIGHT_BRACKET"}
SEPARATORS = {"NEWLINE", "SEMICOLON"}

_JOINED = {"EQUALS", "COMMA", "BAR", "COLON", "TILDE", "GREATER", "BY", "OF", "WITH", "BEFORE"}
CONTINUES_AFTER = OPERATORS | OPENING | SEPARATORS | _JOINED | {"LEFT_BRACE"}
CONTINUES_BEFORE = OPERATORS | CLOSING | _JOINED | {"LEFT_BRACE", "RIGHT_BRACE", "IN"}

# Words of items that may also follow these words in the middle of a statement: `beta:` newline `real`.
INSIDE = {"REAL": {"COLON"}, "ENCODER": {"LEFT_PARENTHESIS", "BEFORE"}, "DECODER": {"LEFT_PARENTHESIS", "BEFORE"},
          "NORM": {"LEFT_PARENTHESIS", "COMMA"}, "HEAD": {"INIT"}}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """The tokens of one item; `unclosed` holds the braces that nothing closes, outermost first."""

    tokens: tuple[Token, ...]
    unclosed: tuple[Token, ...] = ()


class _Splitter:
    """Walks over the tokens of a file once, keeping the open brackets."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens = tokens
        self.items: list[Item] = []
        self.current: list[Token] = []
        self.braces: list[Token] = []
        self.depth = 0  # of parentheses and square brackets
        self.indented = False  # whether a line of the open block stands deeper than the line that opened it
        self.margin: dict[int, int] = {}  # line -> column of its first token
        for token in tokens:
            if token.type != "NEWLINE":
                self.margin.setdefault(token.line, token.column)

    def split(self) -> list[Item]:
        for place, token in enumerate(self.tokens):
            if token.type == "NEWLINE":
                self._newline(place)
            else:
                self._token(place, token)
        self._close()
        return self.items

    def _newline(self, place: int) -> None:
        following = place + 1
        if following == len(self.tokens) or self.tokens[following].type == "NEWLINE" or not self.current:
            return
        token = self.tokens[following]
        if self._starts_item(token) or self._starts_misspelt(following):
            self._close()
            return
        if self._starts_statement(following):
            self.depth = 0
        previous = self.current[-1].type
        if self.depth or previous in CONTINUES_AFTER or token.type in CONTINUES_BEFORE:
            return
        if self.braces:
            self.current.append(self.tokens[place])
        else:
            self._close()

    def _starts_item(self, token: Token) -> bool:
        """Inside braces only a word that stands no deeper than the line which opened them.

        Words that may also stand in a block end it only where its other lines are indented.
        """
        if self.braces:
            self.indented |= token.column > self.margin[self.braces[0].line]
        if token.type not in ITEM_WORDS or self._previous() in INSIDE.get(token.type, ()):
            return False
        if not self.braces:
            return True
        return token.column <= self.margin[self.braces[0].line] and (self.indented or token.type not in BLOCK_WORDS)

    def _starts_misspelt(self, place: int) -> bool:
        """Two names in a row at the margin, with a parenthesis open: a misspelt item after an unclosed parenthesis."""
        if self.braces or not self.depth or self.tokens[place].column > self.current[0].column:
            return False
        return [token.type for token in self.tokens[place : place + 2]] == ["NAME", "NAME"]

    def _starts_statement(self, place: int) -> bool:
        token = self.tokens[place]
        after = self.tokens[place + 1].type if place + 1 < len(self.tokens) else ""
        if not self.braces or self._previous() in INSIDE.get(token.type, ()):
            return False
        return token.type in BLOCK_WORDS or token.type == "RIGHT_BRACE" or (token.type == "NAME" and after == "TILDE")

    def _previous(self) -> str:
        return self.current[-1].type if self.current else ""

    def _token(self, place: int, token: Token) -> None:
        if token.type == "SEMICOLON" and self._drop_semicolon(place):
            return
        if token.type in OPENING:
            self.depth += 1
        elif token.type in CLOSING:
            self.depth = max(0, self.depth - 1)
        elif token.type == "LEFT_BRACE":
            self.braces.append(token)
            self.depth = 0
        elif token.type == "RIGHT_BRACE":
            self.depth = 0
            if self.braces:
                self.braces.pop()
        self.current.append(token)

    def _drop_semicolon(self, place: int) -> bool:
        """A semicolon before a closing brace or beside another separator; at the top it ends an item."""
        if not self.braces and not self.depth:
            self._close()
            return True
        after = next((t.type for t in islice(self.tokens, place + 1, None) if t.type != "NEWLINE"), "")
        return after in {"RIGHT_BRACE", "SEMICOLON"} or self._previous() == "LEFT_BRACE"

    def _close(self) -> None:
        if self.current:
            self.items.append(Item(tuple(self.current), tuple(self.braces)))
        self.current, self.braces, self.depth, self.indented = [], [], 0, False


def split(tokens: Sequence[Token]) -> list[Item]:
    """The items of a file, each with the newlines that separate its statements."""
    return _Splitter(tokens).split()


def without_statement(tokens: tuple[Token, ...], place: int) -> tuple[Token, ...] | None:
    """The tokens of an item without the statement that holds a place, None where that is the item itself.

    Dropping what failed lets the rest of a block be read for further mistakes.
    """
    start = _edge(tokens, place - 1, -1, "LEFT_BRACE", "RIGHT_BRACE")
    end = _edge(tokens, place, 1, "RIGHT_BRACE", "LEFT_BRACE")
    if start < 0 or end >= len(tokens):
        return None
    if tokens[end].type in SEPARATORS:
        return tokens[: start + 1] + tokens[end + 1 :]
    return tokens[: start + (tokens[start].type not in SEPARATORS)] + tokens[end:]


def _edge(tokens: tuple[Token, ...], place: int, step: int, outer: str, inner: str) -> int:
    """Walk to the separator or brace that bounds the statement; nested braces are stepped over."""
    depth = 0
    while 0 <= place < len(tokens):
        kind = tokens[place].type
        if depth == 0 and (kind == outer or kind in SEPARATORS):
            return place
        depth += (kind == inner) - (kind == outer)
        place += step
    return place
