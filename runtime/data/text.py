"""The text of Python's own documentation, which every Python carries, or that of a file: windows of tokens."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from runtime.errors import UserError
from runtime.registry import Place
from runtime.storage import untrusted
from runtime.text.source import TextSource


class Text(TextSource):
    """`file` is a UTF-8 text, of which the last `held_out` share is set aside; without one, Python's documentation.

    Of the topics, by name, every seventh or so (0.15) is set aside as a whole. Topics quote each other, so each
    paragraph is kept once: what a held-out topic holds does not occur in the training text. The topics are those of the
    running Python, so that figures of different versions differ a little. A topic is a document, and so is a file; with
    `tokens: bpe` it may hold several, with the end-of-text token written out between them.
    """

    name: Literal["text"] = "text"
    file: Place | None = None
    held_out: float = Field(default=0.15, gt=0, lt=1)

    def documents(self) -> tuple[Sequence[str], Sequence[str]]:
        if self.file is None:
            return parted(documentation(), self.held_out)
        text = read(self.file)
        cut = round(len(text) * (1 - self.held_out))
        return [text[:cut]], [text[cut:]]


def read(file: Path) -> str:
    try:
        return untrusted.read_text(file, most=untrusted.memory() // 16)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"{file}: cannot be read as a text: {reason} (set data.file)") from None


def documentation() -> list[str]:
    """The topics of Python's documentation by name, as `help()` shows them."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        raise UserError("this Python was installed without its documentation: give a text by data.file") from None
    return [topics[name] for name in sorted(topics)]


def parted(topics: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """Training and held-out topics: whole ones, every paragraph once, the held-out topics first."""
    seen: set[str] = set()
    chosen = [int((place + 1) * share) > int(place * share) for place in range(len(topics))]
    held_out = [fresh(topic, seen) for topic, aside in zip(topics, chosen, strict=True) if aside]
    train = [fresh(topic, seen) for topic, aside in zip(topics, chosen, strict=True) if not aside]
    return [topic for topic in train if topic], [topic for topic in held_out if topic]


def fresh(topic: str, seen: set[str]) -> str:
    """A topic without the paragraphs that occurred before, however indented and broken."""
    kept = []
    for paragraph in re.split(r"\n\s*\n", topic.strip("\n")):
        key = " ".join(paragraph.split())
        if key and key not in seen:
            seen.add(key)
            kept.append(paragraph.rstrip())
    return "\n\n".join(kept)
