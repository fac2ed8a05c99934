"""Tokens that are pieces of words: byte-pair encoding, trained or read by the library `tokenizers`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from crate_dsl.errors import known
from runtime.errors import UserError
from runtime.storage import untrusted

END_OF_TEXT = "<|endoftext|>"  # as GPT-2 calls it
MAX_BYTES = 100_000_000  # of a tokenizer's file; those of large vocabularies have some 20 MB
NOT_TEXT = "this is no text: it holds bytes that are not UTF-8"
_trained: dict[str, Tokenizer] = {}  # of this process, by what each was trained on


class Subwords:
    """What a tokenizer knows; `end` stands between documents. Where `end` occurs in a text, it is that token."""

    def __init__(self, tokenizer: Tokenizer, end: str, origin: str) -> None:
        self.tokenizer, self.size = tokenizer, tokenizer.get_vocab_size()
        self.end = tokenizer.token_to_id(end)
        if self.end is None:
            special = [added.content for added in tokenizer.get_added_tokens_decoder().values()]
            hint = known("special tokens", end, special)
            raise UserError(f'{origin}: has no token "{end}" to stand between documents (data.end_of_text); {hint}')

    def encode(self, text: str) -> Tensor:
        """Token numbers, (count,) int64."""
        return self.ids([text])[0]

    def packed(self, documents: Sequence[str]) -> Tensor:
        """The tokens of all documents, (count,), each with the end-of-text token after it."""
        end = torch.tensor([self.end])
        return torch.cat([part for ids in self.ids(documents) for part in (ids, end)])

    def ids(self, texts: Sequence[str]) -> list[Tensor]:
        try:
            encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except (UnicodeEncodeError, TypeError):  # lone surrogates, which stand for bytes that are not UTF-8
            raise UserError(NOT_TEXT) from None
        return [torch.tensor(each.ids, dtype=torch.int64) for each in encoded]

    def decoder(self) -> Callable[[int], str]:
        """A character appears with its last token."""
        stream = decoders.DecodeStream(skip_special_tokens=False)
        return lambda token: stream.step(self.tokenizer, token) or ""

    @property
    def text(self) -> str:
        """The tokenizer as the text of its file, tokenizer.json."""
        return self.tokenizer.to_str(pretty=True) + "\n"


def trained(documents: Sequence[str], vocabulary: int, end: str = END_OF_TEXT) -> Subwords:
    """Byte-level byte-pair encoding of `vocabulary` tokens: 256 bytes, the end-of-text token `end`, and merges.

    A function of the documents: equally frequent pairs are merged in the order of their numbers. Source: Sennrich et
    al. 2016; byte level and splitting into words as GPT-2 (Radford et al. 2019).
    """
    key = hashlib.sha256(json.dumps([vocabulary, end, *documents]).encode()).hexdigest()
    if key not in _trained:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[end],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        try:
            tokenizer.train_from_iterator(documents, trainer)
        except (UnicodeEncodeError, TypeError):
            raise UserError(NOT_TEXT) from None
        _trained[key] = tokenizer
    return Subwords(_trained[key], end, "data text")


def read(file: Path, end: str) -> Subwords:
    """A tokenizer.json as Hugging Face libraries write it; raises UserError where the file is none."""
    try:
        return Subwords(Tokenizer.from_str(untrusted.read_text(file, MAX_BYTES)), end, str(file))
    except OSError as error:
        raise UserError(f"{file}: cannot read the tokenizer: {error.strerror}") from None
    except UserError:
        raise
    except Exception as error:  # the library raises bare exceptions
        raise UserError(f"{file}: not a tokenizer.json of the library `tokenizers`: {error}") from None
