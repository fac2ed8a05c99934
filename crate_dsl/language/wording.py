"""What the parser could not read, said in the user's words: terminals by name, and the odd characters of keyboards."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

SIGNS = {
    "PLUS": "+", "MINUS": "-", "TIMES": "*", "DIVIDE": "/", "POWER": "^", "DOT_PLUS": ".+", "DOT_TIMES": ".*",
    "DOT_DIVIDE": "./", "DOT_POWER": ".^", "TRANSPOSE": "'", "EQUALS": "=", "TILDE": "~", "GREATER": ">", "COLON": ":",
    "COMMA": ",", "SEMICOLON": ";", "BAR": "|", "LEFT_PARENTHESIS": "(", "RIGHT_PARENTHESIS": ")", "LEFT_BRACKET": "[",
    "RIGHT_BRACKET": "]", "LEFT_BRACE": "{", "RIGHT_BRACE": "}",
}  # fmt: skip
KINDS = {"NAME": "a name", "NUMBER": "a number", "STRING": 'a text in "double quotes"'}

# Terminals that say one thing together; the first group that is accepted as a whole stands for its members.
GROUPS = (
    ("an expression", {"NAME", "NUMBER", "LEFT_PARENTHESIS", "MINUS", "SUM"}),
    (
        "an operator",
        {"PLUS", "MINUS", "TIMES", "DIVIDE", "DOT_PLUS", "DOT_TIMES", "DOT_DIVIDE", "POWER", "DOT_POWER", "TRANSPOSE"},
    ),
    ("an operator", {"PLUS", "MINUS", "TIMES", "DIVIDE", "DOT_PLUS", "DOT_TIMES", "DOT_DIVIDE"}),
    ("the end of the line", {"NEWLINE", "$END"}),
    ("the end of the line", {"$END"}),
    ("a new line", {"NEWLINE", "SEMICOLON"}),
)

CHARACTERS = {
    ".": 'a number needs a digit after its point, "2" or "2.0"; a transpose is written "U\'"',
    "@": 'the matrix product is written "*"',
    "%": 'comments start with "#"',
    "!": "there is no such operator",
    "&": "arguments are separated by commas",
    "\\": "a long line goes on by itself inside parentheses, after an operator, a comma or =",
    "<": 'only "> 0" is known, in "learn beta > 0 = 0.1"',
    "\u2212": 'minus is written "-"',
    "\u2013": 'minus is written "-"',
    "\u2014": 'minus is written "-"',
    "\u00d7": 'the matrix product is written "*", a shape "d x N"',
    "\u00b7": 'the product is written "*"',
    "\u22c5": 'the product is written "*"',
    "\u2299": 'the product entry by entry is written ".*"',
    "\u2019": "the transpose is written with a straight quote: U'",
    "\u2032": "the transpose is written with a straight quote: U'",
    "\u201c": 'texts stand in straight double quotes: "..."',
    "\u201d": 'texts stand in straight double quotes: "..."',
    "\u2211": 'a sum is written "sum(k in K) ..."',
    "\u221a": 'a square root is written "sqrt(...)"',
    "\u00a0": "this is a non-breaking space; write a plain one",
}


_INVERSE = "inverses appear by differentiation, as that of logdet(M)"
_GROUPS = 'the sum of the norms of all columns is "total(column_norms(A))"; it is differentiated, not thresholded'
_SOFTMAX = "softmax appears by differentiation, as that of logsumexp(A), or by a rule: gram ~ softmax(s)"
INSTEAD = {  # functions of other languages, by what is written here
    **dict.fromkeys(("inv", "inverse", "solve"), _INVERSE),
    **dict.fromkeys(("l21", "l12", "l2_1", "group", "group_lasso"), _GROUPS),
    **dict.fromkeys(("softmax", "softargmax"), _SOFTMAX),
    **dict.fromkeys(("abs", "norm1"), 'the sum of absolute entries is "l1(A)"'),
    **dict.fromkeys(("l2", "frobenius", "square", "sq"), 'the sum of squared entries is "norm2(A)"'),
    **dict.fromkeys(("mean", "average"), 'a mean is a sum over its number: "total(A) / N"'),
    **dict.fromkeys(("det", "slogdet"), 'the logarithm of a determinant is "logdet(M)"'),
    "tr": 'the trace is "trace(M)"',
    "ln": 'the natural logarithm is "log(A)"',
    "pow": 'powers are written "^" between numbers and ".^" entry by entry',
    "transpose": "a transpose is written with a straight quote: U'",
}


def keyword(terminal: str) -> bool:
    """Whether a terminal is a reserved word, such as `SIZE`."""
    return terminal.isalpha() and terminal not in SIGNS and terminal not in {*KINDS, "NEWLINE", "UNKNOWN"}


def word(terminal: str) -> str:
    """One terminal in human words."""
    if terminal in SIGNS:
        return f'"{SIGNS[terminal]}"'
    if terminal in KINDS:
        return KINDS[terminal]
    if terminal in {"NEWLINE", "$END"}:
        return "the end of the line"
    return f'"{terminal.lower()}"'


def expectation(accepts: Iterable[str]) -> str:
    """What could stand in a place, as one phrase: `an expression, "(" or the end of the line`."""
    left, phrases = set(accepts), []
    for phrase, members in GROUPS:
        if members <= left:
            phrases.append(phrase)
            left -= members
    phrases = sorted(map(word, left)) + phrases
    unique = list(dict.fromkeys(phrases))
    return " or ".join(filter(None, [", ".join(unique[:-1]), unique[-1]])) if unique else "nothing"


def foreign_name(text: str) -> str:
    """The hint for a name with letters beyond ASCII: how a Greek letter is spelt, where it is one."""
    first = next(character for character in text if not character.isascii())
    name = unicodedata.name(first, "")
    if name.startswith("GREEK") and "LETTER " in name:
        letter = name.split("LETTER ")[1].split()[0].replace("LAMDA", "LAMBDA").lower()
        return f'names are made of a-z, A-Z, 0-9 and _: write "{letter}"'
    if first in CHARACTERS:
        return CHARACTERS[first]
    if name.startswith("SUPERSCRIPT"):
        return 'powers are written "^" between scalars and ".^" entry by entry'
    return "names are made of a-z, A-Z, 0-9 and _"


def unknown_character(character: str) -> str:
    return CHARACTERS.get(character, "this character has no meaning here")
