"""What the tokens of a text are: its bytes, or its characters."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from crate_dsl.errors import harmless as harmless
from runtime.errors import UserError

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


def decoded(alphabet: Alphabet, tokens: Iterable[int]) -> str:
    """A text at once, hidden tokens as a grey block."""
    decode = alphabet.decoder()
    return "".join(HIDDEN_SIGN if token == HIDDEN else decode(token) for token in tokens)
