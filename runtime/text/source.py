"""What sources of text have in common: what a token is, and how documents become windows of tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from runtime.data.source import DataSource, Splits
from runtime.errors import Misfit, UserError
from runtime.network import TextShape
from runtime.registry import Place
from runtime.storage import checkpoint
from runtime.text import alphabet as alphabets
from runtime.text import subwords
from runtime.text.alphabet import Alphabet, Bytes, Characters, decoded, harmless
from runtime.text.subwords import END_OF_TEXT, Subwords
from runtime.text.windows import Windows

PRINTED = 3  # windows on the terminal; the file has all that are shown
BETWEEN = "\n\n\n"  # documents, where tokens are bytes or characters
KEPT = {"bpe": "tokenizer.json", "characters": "characters.json"}  # in the folder of a run, by `tokens`


class TextSource(DataSource):
    """A token is a byte, a character that occurs in the text, or with `bpe` a piece of a word: byte-pair encoding.

    Its `vocabulary` says how many tokens are trained on the training text; a `tokenizer` is a tokenizer.json, as
    Hugging Face libraries write it, that is read instead, or of characters the characters.json of another run. A run
    keeps its own in its folder.

    Documents are packed: one after the other, with `end_of_text` after each (bytes and characters have no such token:
    three ends of lines), and cut into windows wherever they end. So attention crosses documents, as in nanoGPT.
    """

    tokens: Literal["bytes", "characters", "bpe"] = "bytes"
    vocabulary: int | None = Field(default=None, ge=258)  # 256 bytes, the end-of-text token, a merge
    tokenizer: Place | None = None
    end_of_text: str = Field(default=END_OF_TEXT, min_length=1)
    reads: ClassVar = TextShape
    unit: ClassVar = "windows"

    @model_validator(mode="after")
    def one_tokenizer(self) -> Self:
        given = [name for name in ("vocabulary", "tokenizer") if getattr(self, name) is not None]
        if self.tokens == "bpe" and len(given) != 1:
            raise ValueError("tokens: bpe takes vocabulary (to be trained on the text) or tokenizer (a tokenizer.json)")
        given += ["end_of_text"] if self.end_of_text != END_OF_TEXT else []
        refused = [name for name in given if (self.tokens, name) != ("characters", "tokenizer")]
        if self.tokens != "bpe" and refused:
            raise ValueError(f"{refused[0]} is for tokens: bpe")
        return self

    @abstractmethod
    def documents(self) -> tuple[Sequence[str], Sequence[str]]:
        """The training documents and the held-out ones."""

    def open(self, shape: TextShape) -> Splits:
        """Windows of `shape.length` tokens, each with the token that follows it."""
        train, held_out = self.documents()
        alphabet = self.alphabet_of(train, held_out)
        self.require_vocabulary(alphabet, shape)
        named = (("training", train), ("held-out", held_out))
        return Splits(*(self.windows(name, part, alphabet, shape.length) for name, part in named), classes=None)

    def require_vocabulary(self, alphabet: Alphabet, shape: TextShape) -> None:
        if alphabet.size != shape.vocabulary:
            kinds = f"{alphabet.size} {self.counted}"
            found = f"data {self.name} has {kinds}, the network's vocabulary is {shape.vocabulary}"
            raise Misfit(found, f": sizes.vocabulary={alphabet.size}")

    @property
    def counted(self) -> str:
        return "tokens" if self.tokens == "bpe" else self.tokens

    def alphabet(self) -> Alphabet:
        """What the numbers of the tokens stand for."""
        known = self.tokens == "bytes" or self.tokenizer is not None
        return self.alphabet_of((), ()) if known else self.alphabet_of(*self.documents())

    def alphabet_of(self, train: Sequence[str], held_out: Sequence[str]) -> Alphabet:
        if self.tokens == "bytes":
            return Bytes()
        if self.tokens == "characters":
            if self.tokenizer is not None:
                return alphabets.read(self.tokenizer)
            return Characters("".join(sorted(set(joined(train)) | set(joined(held_out)))))
        if self.tokenizer is not None:
            return subwords.read(self.tokenizer, self.end_of_text)
        return subwords.trained(train, self.vocabulary, self.end_of_text)

    def windows(self, name: str, documents: Sequence[str], alphabet: Alphabet, length: int) -> Windows:
        tokens = packed(alphabet, documents)
        if len(tokens) <= length:
            found = f"the {name} text has {len(tokens)} {self.counted}, a window takes {length} and the next one"
            raise UserError(f"data {self.name}: {found}; give more text or a smaller sizes.length")
        return Windows(tokens.int(), length)

    def keep(self, folder: Path) -> None:
        """What the run was trained on is what it is sampled with, also where the text has changed or gone."""
        if self.tokens in KEPT:
            checkpoint.replace_text(folder / KEPT[self.tokens], self.alphabet().text)

    def kept(self, folder: Path) -> Self:
        """Runs of earlier versions have no characters.json: their text says which characters there are."""
        if self.tokens not in KEPT or (self.tokens == "characters" and not (folder / KEPT[self.tokens]).exists()):
            return self
        return self.model_copy(update={"tokenizer": folder / KEPT[self.tokens]})

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


def packed(alphabet: Alphabet, documents: Sequence[str]) -> Tensor:
    """The tokens of all documents one after the other, (count,) int64."""
    return alphabet.packed(documents) if isinstance(alphabet, Subwords) else alphabet.encode(joined(documents))


def joined(documents: Sequence[str]) -> str:
    """One text of several documents; a single one as it is."""
    if len(documents) == 1:
        return documents[0]
    return BETWEEN.join(document for document in documents if document) + "\n"
