"""What the tokens of a text are: its bytes, or its characters."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from crate_dsl.errors import harmless as harmless
from runtime.errors import UserError
from runtime.storage import untrusted

MAX_BYTES = 10_000_000  # of a file of characters; all that Unicode has take less
HIDDEN = -1  # a token that is not to be seen
HIDDEN_SIGN = "\N{MEDIUM SHADE}"


class Alphabet(Protocol):
    """Text to token numbers 0 .. size - 1 and back."""

    size: int

    def encode(self, text: str) -> Tensor:
        """Token numbers, (count,) int64; raises UserError where the text holds what the alphabet lacks."""
        ...

    def decoder(self) -> Callable[[int], str]:
        """A function that takes one token after another and gives what it adds to the text."""
        ...


@dataclass(frozen=True)
class Bytes:
    """UTF-8: 256 tokens, whatever the text."""

    size: int = 256

    def encode(self, text: str) -> Tensor:
        try:
            return torch.tensor(list(text.encode("utf-8")), dtype=torch.int64)
        except UnicodeEncodeError:
            raise UserError("this is no text: it holds bytes that are not UTF-8") from None

    def decoder(self) -> Callable[[int], str]:
        """A character appears with its last byte; bytes that are no UTF-8 become a replacement character."""
        incremental = codecs.getincrementaldecoder("utf-8")(errors="replace")
        return lambda token: incremental.decode(bytes([token]))


@dataclass(frozen=True)
class Characters:
    """The characters that occur in a text, in the order of their code points."""

    characters: str

    @property
    def size(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> Tensor:
        numbers = {character: number for number, character in enumerate(self.characters)}
        if unknown := set(text) - set(numbers):
            raise UserError(f"the character {min(unknown)!r} does not occur in the text that the alphabet is from")
        return torch.tensor([numbers[character] for character in text], dtype=torch.int64)

    def decoder(self) -> Callable[[int], str]:
        return self.characters.__getitem__

    @property
    def text(self) -> str:
        """The characters as the text of their file, characters.json: one string, all of it ASCII."""
        return json.dumps(self.characters) + "\n"


def read(file: Path) -> Characters:
    """A characters.json as a run keeps it; raises UserError where the file is none."""
    try:
        found = json.loads(untrusted.read_text(file, MAX_BYTES))
    except OSError as error:
        raise UserError(f"{file}: cannot read the characters: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not the characters.json of a run: {error}") from None
    if not isinstance(found, str) or list(found) != sorted(set(found)):
        raise UserError(f"{file}: not the characters.json of a run, one string of different characters in their order")
    return Characters(found)


def decoded(alphabet: Alphabet, tokens: Iterable[int]) -> str:
    """A text at once, hidden tokens as a grey block."""
    decode = alphabet.decoder()
    return "".join(HIDDEN_SIGN if token == HIDDEN else decode(token) for token in tokens)
