"""Lines of the written file: indented, wrapped, and text of the user made safe to stand in them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from crate_dsl.errors import printable

INDENT = "    "
WIDTH = 112


def indented(lines: Iterable[str], times: int = 1) -> list[str]:
    return [INDENT * times + line if line else "" for line in lines]


def escaped(text: str) -> str:
    """The user's text, safe inside a docstring: no line breaks, no quotes that end it, no escapes, nothing invisible.

    A null character would not even be read back, one that turns the writing direction would hide what stands there.
    """
    plain_text = " ".join(printable(text).split()).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return plain_text[:-1] + '\\"' if plain_text.endswith('"') else plain_text


def docstring(lines: list[str]) -> list[str]:
    """Lines between triple quotes, on one line where there is one."""
    if len(lines) == 1:
        return [f'"""{lines[0]}"""']
    return [f'"""{lines[0]}', *lines[1:], '"""']


def wrapped(text: str, indent: str = "    ") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
