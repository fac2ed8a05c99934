"""The text of Python's own documentation, which every Python carries, or that of a file: windows of tokens."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from runtime import seeds
from runtime.data.source import Batch, DataSource, Splits
from runtime.errors import UserError
from runtime.network import TextShape
from runtime.storage import checkpoint, untrusted
from runtime.text.alphabet import Alphabet, Bytes, Characters, decoded, harmless

PRINTED = 3  # windows on the terminal; the file has all that are shown


class Text(DataSource):
    """`file` is a UTF-8 text, of which the last `held_out` share is set aside; without one, Python's documentation.

    Of the topics, by name, every seventh or so (0.15) is set aside as a whole. Topics quote each other, so each
    paragraph is kept once: what a held-out topic holds does not occur in the training text. A token is a byte or a
    character. The topics are those of the running Python, so that figures of different versions differ a little.
    """

    name: Literal["text"] = "text"
    file: Path | None = None
    tokens: Literal["bytes", "characters"] = "bytes"
    held_out: float = Field(default=0.15, gt=0, lt=1)
    reads: ClassVar = TextShape
    unit: ClassVar = "windows"

    def open(self, shape: TextShape) -> Splits:
        """Windows of `shape.length` tokens, each with the token that follows it."""
        train, held_out = self.parts()
        alphabet = self.alphabet_of(train + held_out)
        if alphabet.size != shape.vocabulary:
            kinds = f"{alphabet.size} {self.tokens}"
            hint = f"sizes.vocabulary={alphabet.size}"
            raise UserError(f"data text has {kinds}, the network's vocabulary is {shape.vocabulary}: {hint}")
        named = (("training", train), ("held-out", held_out))
        return Splits(*(self.windows(name, part, alphabet, shape.length) for name, part in named), classes=None)

    def alphabet(self) -> Alphabet:
        """What the numbers of the tokens stand for."""
        return self.alphabet_of("".join(self.parts()))

    def alphabet_of(self, text: str) -> Alphabet:
        return Bytes() if self.tokens == "bytes" else Characters("".join(sorted(set(text))))

    def parts(self) -> tuple[str, str]:
        """The training text and the held-out one."""
        if self.file is None:
            return parted(documentation(), self.held_out)
        text = read(self.file)
        cut = round(len(text) * (1 - self.held_out))
        return text[:cut], text[cut:]

    def windows(self, name: str, text: str, alphabet: Alphabet, length: int) -> Windows:
        tokens = alphabet.encode(text)
        if len(tokens) <= length:
            found = f"the {name} text has {len(tokens)} {self.tokens}, a window takes {length} and the next one"
            raise UserError(f"data text: {found}; give more text or a smaller sizes.length")
        return Windows(tokens, length)

    def show(self, columns: Mapping[str, Tensor], path: Path) -> Path:
        """One paragraph per window, one line per column."""
        alphabet, width = self.alphabet(), max(map(len, columns))

        def lines(number: int) -> str:
            shown = ((label, decoded(alphabet, tokens[number].tolist())) for label, tokens in columns.items())
            return "\n".join(f"{label:>{width}} | {on_one_line(text)}" for label, text in shown)

        blocks = [lines(number) for number in range(len(next(iter(columns.values()))))]
        text = "\n\n".join(blocks) + "\n"
        print("\n\n".join(["", *blocks[:PRINTED], ""]))
        checkpoint.replace_text(path.with_suffix(".txt"), text)
        return path.with_suffix(".txt")


def on_one_line(text: str) -> str:
    return harmless(text).replace("\n", "\N{RETURN SYMBOL}").replace("\t", " ")


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


def parted(topics: Sequence[str], share: float) -> tuple[str, str]:
    """Training and held-out text: whole topics, every paragraph once, the held-out topics first."""
    seen: set[str] = set()
    chosen = [int((place + 1) * share) > int(place * share) for place in range(len(topics))]
    held_out = [fresh(topic, seen) for topic, aside in zip(topics, chosen, strict=True) if aside]
    train = [fresh(topic, seen) for topic, aside in zip(topics, chosen, strict=True) if not aside]
    return joined(train), joined(held_out)


def fresh(topic: str, seen: set[str]) -> str:
    """A topic without the paragraphs that occurred before, however indented and broken."""
    kept = []
    for paragraph in re.split(r"\n\s*\n", topic.strip("\n")):
        key = " ".join(paragraph.split())
        if key and key not in seen:
            seen.add(key)
            kept.append(paragraph.rstrip())
    return "\n\n".join(kept)


def joined(topics: Iterable[str]) -> str:
    return "\n\n\n".join(topic for topic in topics if topic) + "\n"


@dataclass(frozen=True)
class Windows:
    """As many windows as fit side by side; varied, each starts up to a window later."""

    tokens: Tensor
    length: int

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        """Inputs (batch, length) and, as labels, the tokens that follow them."""
        places = torch.tensor([self.start(int(i), draw) for i in indices]).unsqueeze(1) + torch.arange(self.length + 1)
        window = self.tokens[places]
        return Batch(window[:, :-1].contiguous(), window[:, 1:].contiguous())

    def start(self, index: int, draw: tuple[int, int] | None) -> int:
        generator = seeds.augmentation(draw, index)
        shift = int(generator.integers(self.length)) if generator else 0
        return min(index * self.length + shift, len(self.tokens) - 1 - self.length)
