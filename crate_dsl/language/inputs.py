"""What belongs to each kind of input: the stem that makes tokens of it, the head that gives it back, how many tokens.

Words that belong to no input here, such as a class token, are common to all; those in `refused` are not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crate_dsl.language.model import Word
from crate_dsl.language.report import Report
from crate_dsl.language.sizes import MAX_SIZE


@dataclass(frozen=True)
class InputKind:
    """One word of the `input` line."""

    name: str  # "an image", as messages call it
    stem: str  # the word of the tokens line that reads it
    head: str  # the head that predicts it token by token, which masked networks need
    units: str  # what becomes one token each
    example: str  # of a tokens line
    count: Callable[[Word, Word, Report], int | None]  # (stem, input): the tokens that come from the input
    coordinates: int  # of a token's place: sine-cosine positions need two features for each; 0: it has no place
    refused: Mapping[str, str] = field(default_factory=dict)  # common words that make no sense here, and why


def _patches(stem: Word, image: Word, report: Report) -> int | None:
    """How many patches fill the image; patches that do not divide it are an error."""
    sizes = [value for value in stem.arguments if isinstance(value, int)]
    patch = (sizes[0], sizes[-1])
    lengths, count = image.arguments[1:3], 1
    notes = [(image.span, f"the image is {lengths[0]} x {lengths[1]}, from here")]
    for side, length, part in zip(("height", "width"), lengths, patch, strict=True):
        if length % part:
            message = f"patches of {patch[0]} x {patch[1]} do not divide the image's {side} of {length}"
            near = [n for n in range(part, 0, -1) if length % n == 0][0]
            report.error(message, stem.span, f"{near} would divide it", notes)
            return None
        count *= length // part
    if count + 1 > MAX_SIZE:
        report.error(f"this makes {count:,} patches", stem.span, f"at most {MAX_SIZE:,} tokens are allowed", notes)
        return None
    return count


def _length(stem: Word, text: Word, report: Report) -> int:
    return text.arguments[0]


def _count(stem: Word, vectors: Word, report: Report) -> int:
    return vectors.arguments[1]


IMAGE = InputKind(
    "an image",
    "patches",
    "patches",
    "patches",
    "tokens Z: d x N = patches(patch) + class_token + position(learned)",
    _patches,
    2,
)
TEXT = InputKind(
    "a text",
    "embedding",
    "vocabulary",
    "tokens",
    "tokens Z: d x N = embedding + position(learned)",
    _length,
    1,
    {"class_token": "a text has one token for every place; to read them all, write: head classify(classes) of mean"},
)
VECTORS = InputKind("vectors", "vectors", "tokens", "vectors", "tokens Z: d x N = vectors", _count, 0)
INPUT_KINDS: Mapping[str, InputKind] = {"image": IMAGE, "text": TEXT, "vectors": VECTORS}
STEMS = {kind.stem: kind for kind in INPUT_KINDS.values()} | {"convolutions": IMAGE}
WHOLE = VECTORS.head  # gives the tokens as they are, whatever they come from
HEADS = {kind.head: kind for kind in INPUT_KINDS.values() if kind is not VECTORS}
