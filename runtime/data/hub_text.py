"""Text of the Hugging Face `datasets` library: a set of the hub or local files, also streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from runtime.data.source import Splits
from runtime.errors import UserError
from runtime.network import TextShape
from runtime.reading.hugging_face import HuggingFace
from runtime.reading.stream import Streamed
from runtime.text.alphabet import Alphabet
from runtime.text.source import BETWEEN, TextSource
from runtime.text.subwords import Subwords


class HubText(HuggingFace, TextSource):
    """The column `text`, every row a document. `path` and what belongs to it: see `runtime/reading/hugging_face.py`.

    Without `streaming` all of it is turned into tokens at the start of a run and held in memory, 4 bytes each. A stream
    is turned into tokens as it comes, its documents shuffled, its windows side by side; `samples` counts windows. No
    vocabulary can be made of a stream: its tokens are bytes, or those of a `tokenizer`.
    """

    name: Literal["hub_text"] = "hub_text"
    text: str = "text"

    def documents(self) -> tuple[Sequence[str], Sequence[str]]:
        self.require_known_tokens()
        sets = self.load()
        train, held_out = (self.split(sets, name, (self.text,)) for name in (self.train, self.held_out))
        return [row or "" for row in train[self.text]], [row or "" for row in held_out[self.text]]

    def open(self, shape: TextShape) -> Splits:
        if not self.streaming:
            return super().open(shape)
        self.require_known_tokens()
        sets, alphabet = self.load(), self.alphabet()
        self.require_vocabulary(alphabet, shape)
        rows = (self.split(sets, name, (self.text,)) for name in (self.train, self.held_out))
        train, held_out = (StreamedText(each, self, alphabet, shape.length) for each in rows)
        return Splits(Streamed(train, self.samples), Streamed(held_out, self.held_out_samples), classes=None)

    def require_known_tokens(self) -> None:
        if self.streaming and self.tokens != "bytes" and self.tokenizer is None:
            wish = "data.tokens=bytes, or tokens=bpe with data.tokenizer (the tokenizer.json of another run, say)"
            raise UserError(f"data hub_text: no vocabulary can be made of a stream: give {wish}")


@dataclass(frozen=True)
class StreamedText:
    """Windows of the documents of a stream."""

    rows: Any
    options: HubText
    alphabet: Alphabet
    length: int

    def open(self, draw: tuple[int, int] | None) -> Iterator[Tensor]:
        """Windows (length + 1,), each starting with the last token of the one before."""
        pending = torch.empty(0, dtype=torch.int64)
        for row in self.options.opened(self.rows, draw):
            pending = torch.cat([pending, self.encoded(row[self.options.text] or "")])
            while len(pending) > self.length:
                yield pending[: self.length + 1]
                pending = pending[self.length :]

    def encoded(self, document: str) -> Tensor:
        if isinstance(self.alphabet, Subwords):
            return self.alphabet.packed([document])
        return self.alphabet.encode(document + BETWEEN)

    def example(self, row: Callable[[int], Tensor], index: int, draw: tuple[int, int] | None) -> tuple[Tensor, Tensor]:
        window = row(index)
        return window[:-1], window[1:]
