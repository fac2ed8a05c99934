"""The parser of the grammar, from tables that lie beside it: making them takes as long as deriving a network.

    python -c "from crate_dsl.language.tables import write; write()"

makes them anew, after a change of the grammar or with another version of lark. Tables made for anything but the grammar
as it stands are never used; the parser then comes from the grammar. They are JSON, so that reading executes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import lark
from lark import Lark, Token
from lark.grammar import Rule
from lark.lexer import TerminalDef

GRAMMAR = Path(__file__).with_name("grammar.lark")
TABLES = Path(__file__).with_name("grammar.json")
OPTIONS = {  # the basic lexer lets NAME absorb whole words, so that keywords never split one
    "start": "item", "parser": "lalr", "lexer": "basic", "propagate_positions": True, "maybe_placeholders": False,
}  # fmt: skip


class _Reported:
    """Lets terminals into the lexer that no rule takes: they are there to be reported in words."""

    always_accept = ("FOREIGN_NAME", "OPEN_STRING", "UNKNOWN")

    @staticmethod
    def process(stream: Iterator[Token]) -> Iterator[Token]:
        return stream


@cache
def grammar() -> Lark:
    """The parser of one item of a file."""
    text = GRAMMAR.read_text(encoding="utf-8")
    return kept(text) or made(text)


def made(text: str) -> Lark:
    """The parser of a grammar."""
    return Lark(text, postlex=_Reported(), **OPTIONS)


def kept(text: str) -> Lark | None:
    """The same from the tables, None where they were made for anything else."""
    try:
        tables = json.loads(TABLES.read_text(encoding="utf-8"), object_hook=_numbered)
    except FileNotFoundError:
        return None
    if tables["of"] != _identity(text):
        return None
    return Lark._load_from_dict(tables["data"], tables["memo"], postlex=_Reported(), propagate_positions=True)


def _numbered(entries: dict[str, object]) -> dict[str | int, object]:
    """A dictionary as it was before JSON, which knows no keys but texts."""
    return {int(key) if key.isdigit() else key: value for key, value in entries.items()}


def _identity(text: str) -> str:
    """Of all that the tables depend on."""
    return sha256(repr((text, _Reported.always_accept, OPTIONS, lark.__version__)).encode()).hexdigest()


def write() -> None:
    """Bring the tables up to date."""
    text = GRAMMAR.read_text(encoding="utf-8")
    data, memo = made(text).memo_serialize([TerminalDef, Rule])
    data["options"]["postlex"] = None
    tables = {"of": _identity(text), "data": data, "memo": memo}
    TABLES.write_text(json.dumps(tables, separators=(",", ":")) + "\n", encoding="utf-8")
