"""Sizes and amounts in words: what flows along an arrow, how much a step holds and spends."""

from __future__ import annotations

import re
from collections.abc import Iterable

from crate_dsl.language.model import Model
from crate_dsl.operators.cost import quantity


def sizes(values: Iterable[object]) -> str:
    """
    >>> sizes((197, 768))
    '197 × 768'
    """
    return " × ".join(f"{value:,}" if isinstance(value, int) else str(value) for value in values)


def times(text: str) -> str:
    """Sizes in the language's notation with the sign: `12 of 768 x 64`."""
    return re.sub(r"(?<=\w) x (?=\w)", " × ", text)


def amount(number: int, what: str) -> str:
    """
    >>> amount(1, "parameter"), amount(22796008, "parameter")
    ('1 parameter', '22,796,008 parameters')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def operations(flops: int) -> str:
    return f"{quantity(flops).strip()}FLOP"


# ---- what flows ----------------------------------------------------------------------------------------------------


def tokens_size(model: Model, more: int = 0) -> str:
    """Tokens by features, the order in which torch holds them; `more` tokens have joined those of the tokens line."""
    return sizes((model.tokens.count + more, model.sizes[model.tokens.rows]))


def input_size(model: Model) -> str:
    """What enters: of a text its length, of vectors as many as there are tokens, else the sizes as declared."""
    match model.input.name:
        case "text":
            return sizes(model.input.arguments[:1])
        case "vectors":
            return tokens_size(model)
    return sizes(model.input.arguments)


def pooled_size(model: Model) -> str:
    """What a head reads: all tokens, or what it pools of them."""
    return f"{model.sizes[model.tokens.rows]:,} (of {model.head.of})" if model.head.of else tokens_size(model)


def output_size(model: Model) -> str:
    """What a head gives; empty for a head of which this page knows nothing."""
    d, word = model.sizes[model.tokens.rows], model.head.word
    match word.name:
        case "classify":
            return sizes(word.arguments)
        case "patches":
            return sizes((model.tokens.patches, model.pixels))
        case "vocabulary":
            return sizes((model.tokens.count, model.input.arguments[-1]))
        case "features":
            return sizes((d,))
        case "tokens":
            return tokens_size(model)
    return ""
