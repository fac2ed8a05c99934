"""Formulas without LaTeX: what `mathematics/latex.py` prints, as runs of Unicode characters with sub- and superscripts.

Only the commands that our printers use are known; another one is shown by its name, so that a new atom is readable in
a picture before anyone gives it a sign here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

from crate_dsl.errors import printable
from crate_dsl.mathematics.latex_names import GREEK

THIN = "\u2009"  # between the factors of a product
TOKEN = re.compile(r"\\[A-Za-z]+|\\.|[{}^_&]|\s+|\d+(?:\.\d+)?|.", re.S)
SIGNS = {
    "sum": "Σ", "odot": "⊙", "oplus": "⊕", "otimes": "⊗", "cdot": "·", "times": "×", "pm": "±", "sim": "∼",
    "lVert": "||", "rVert": "||", "nabla": "∇", "infty": "∞", "ldots": "…", "quad": "  ", "mathbb": "",
    "mid": " | ", "leq": " ≤ ", "geq": " ≥ ", "neq": " ≠ ", "in": " ∈ ", "to": " → ",
    **dict.fromkeys(("left", "right", "textstyle", "displaystyle", "limits"), ""),
}  # fmt: skip
ROMAN = {"mathrm", "operatorname", "text", "log", "det", "exp", "max", "min", "mathbf"}
FRACTIONS = {("1", "2"): "½", ("1", "3"): "⅓", ("2", "3"): "⅔", ("1", "4"): "¼", ("3", "4"): "¾"}
RELATIONS = "+-=<>"
LOOSE = {"", *RELATIONS, r"\mid", r"\leq", r"\geq", r"\in", r"\to", r"\quad", r"\,", r"\ ", r"\\", "&"}
OPENING, CLOSING = {r"\left", r"\lVert", "(", "["}, {r"\right", r"\rVert", ")", "]", ","}
SUPERSCRIPTS = dict(zip("0123456789+-=()abcdefghijklmnoprstuvwxyzTUVW", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵀᵁⱽᵂ",
                        strict=True)) | {"−": "⁻"}  # fmt: skip
SUBSCRIPTS = dict(zip("0123456789+-=()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))


def _greek(name: str) -> str:
    case = "CAPITAL" if name[0].isupper() else "SMALL"
    return unicodedata.lookup(f"GREEK {case} LETTER {name.upper().replace('LAMBDA', 'LAMDA')}")


SIGNS |= {name: _greek(name) for name in GREEK} | {"varepsilon": "ε", "varphi": "φ"}


@dataclass(frozen=True)
class Run:
    """Characters of one style; `level` is 1 for a superscript, -1 for a subscript."""

    text: str
    italic: bool = False
    level: int = 0
    bold: bool = False


Runs = tuple[Run, ...]


def words(text: str) -> Runs:
    """Plain text; control characters, which no picture can show, become blanks."""
    return (Run(printable(text)),)


def formula(latex: str) -> Runs:
    """The runs of one formula in LaTeX."""
    return merged(_Setter(TOKEN.findall(latex)).all())


def unicode(runs: Iterable[Run]) -> str:
    """The runs as bare text: small letters where Unicode has them, `_` and `^` elsewhere."""
    parts = (_bare(level, tuple(group)) for level, group in groupby(runs, key=lambda run: run.level))
    return "".join(parts).replace(THIN, " ")


def _bare(level: int, runs: Runs) -> str:
    if level == 0:
        return "".join(run.text for run in runs)
    small, text = SUPERSCRIPTS if level > 0 else SUBSCRIPTS, "".join(run.text for run in runs)
    if all(c in small for c in text):
        return "".join(small[c] for c in text)
    return ("^" if level > 0 else "_") + (text if len(text) == 1 else f"({text})")


def merged(runs: Iterable[Run]) -> Runs:
    """Neighbours of one style as one run."""
    result: list[Run] = []
    for run in runs:
        if result and replace(result[-1], text="") == replace(run, text=""):
            result[-1] = replace(run, text=result[-1].text + run.text)
        elif run.text:
            result.append(run)
    return tuple(result)


class _Setter:
    """Reads tokens of LaTeX from left to right; whatever has no meaning is shown as it is, nothing fails."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens, self.place = tokens, 0

    def all(self) -> list[Run]:
        runs: list[Run] = []
        while self.place < len(self.tokens):
            runs += self.next()
        return runs

    def peek(self) -> str:
        return self.tokens[self.place] if self.place < len(self.tokens) else ""

    def argument(self) -> list[str]:
        """The tokens of the next group without its braces, or the next token alone."""
        while self.peek().isspace():
            self.place += 1
        start, depth = self.place, 0
        while self.place < len(self.tokens):
            depth += {"{": 1, "}": -1}.get(self.tokens[self.place], 0)
            self.place += 1
            if depth <= 0:
                break
        found = self.tokens[start : self.place]
        if found[:1] != ["{"]:
            return found
        return found[1:-1] if depth == 0 else found[1:]

    def next(self) -> list[Run]:
        token = self.tokens[self.place]
        self.place += 1
        if token in ("^", "_"):
            inner = _Setter(self.argument()).all()
            level = 1 if token == "^" else -1
            return [replace(run, text=run.text.replace(" ", "").replace(THIN, ""), level=level) for run in inner]
        if token.startswith("\\"):
            return self.command(token[1:])
        if token.isspace():
            return [] if self.is_loose() else [Run(THIN)]
        if token in RELATIONS:
            return [Run(self.relation(token))]
        if token == "&":  # between a case and its condition
            return [Run(" ")]
        return [] if token in "{}" else [Run(token, italic=token.isalpha())]

    def is_loose(self) -> bool:
        """Whether the blank just read separates no factors: beside a sign or inside a bracket."""
        before, after = "".join(self.tokens[: self.place - 1][-1:]), self.peek()
        return before in LOOSE or after in LOOSE or before in OPENING or after in CLOSING

    def relation(self, token: str) -> str:
        """A sign between two things has room on both sides, one before a thing has none."""
        sign = "−" if token == "-" else token
        before = [t for t in self.tokens[: self.place - 1] if not t.isspace() and t not in (r"\left", r"\right")]
        continued = not before and self.peek().isspace()  # a further summand of a formula in pieces
        if not continued and (not before or before[-1] in ("(", ",", "[", "{", "=", r"\ ")):
            return sign
        while self.peek().isspace():
            self.place += 1
        return f"{sign} " if continued else f" {sign} "

    def command(self, name: str) -> list[Run]:
        match name:
            case "frac":
                return self.fraction()
            case "sqrt":
                inner = _Setter(self.argument()).all()
                return [Run("√"), *_grouped(inner, len(inner) > 1)]
            case "sum":
                return [Run("Σ"), *self.sum_index()]
            case "bar":  # a line above is lost where a font or a program lacks it; the word stays
                return [Run("norm("), *_Setter(self.argument()).all(), Run(")")]
            case "top":
                return [Run("T")]
            case "begin" | "end":
                self.argument()
                self.place += self.peek().isspace()
                return []
        return self.word(name)

    def word(self, name: str) -> list[Run]:
        if name in ("log", "det", "exp", "max", "min"):
            return [Run(name + ("" if self.peek() in ("(", r"\left", "_", "^") else THIN))]
        if name in ROMAN:
            text = "".join(self.argument()).replace("\\_", "_")
            self.place += text.endswith(" ") and self.peek().isspace()
            return [Run(text, bold=name == "mathbf")]
        if name in SIGNS:
            sign = SIGNS[name]
            return [Run(sign, italic=len(sign) == 1 and sign.isalpha() and sign.islower())]
        if not name.isalpha():
            return [Run({",": THIN, " ": " ", "\\": "; "}.get(name, name))]
        return [Run(name)]

    def sum_index(self) -> list[Run]:
        """Of `_{k=1}^{K}` the index alone: the family is stated with the matrices."""
        if self.peek() != "_":
            return []
        self.place += 1
        inner = self.argument()
        if "=" in inner:
            inner = inner[: inner.index("=")]
        if self.peek() == "^":
            self.place += 1
            self.argument()
        return [replace(run, level=-1) for run in _Setter(inner).all()] + ([] if self.peek().isspace() else [Run(THIN)])

    def fraction(self) -> list[Run]:
        """On one line; a product behind it is set off by a dot."""
        above, below = (_Setter(self.argument()).all() for _ in range(2))
        plain = tuple("".join(run.text for run in part) for part in (above, below))
        if plain in FRACTIONS:
            return [Run(FRACTIONS[plain])]
        if plain[0] == "1" and re.fullmatch(r"10{3,}", plain[1]):
            return [Run("10"), Run(f"−{len(plain[1]) - 1}", level=1)]
        runs = [*_grouped(above, _is_sum(above)), Run("/"), *_grouped(below, _is_sum(below) or _is_product(below))]
        following = [token for token in self.tokens[self.place :] if not token.isspace()]
        if self.peek().isspace() and following and following[0] not in ("+", "-", "=", ")", r"\right", "}", ","):
            self.place += 1
            runs.append(Run(f"{THIN}·{THIN}"))
        return runs


def _grouped(runs: list[Run], wanted: bool) -> list[Run]:
    return [Run("("), *runs, Run(")")] if wanted else runs


def _is_sum(runs: list[Run]) -> bool:
    return any(sign in _outside(runs) for sign in ("+", "−"))


def _is_product(runs: list[Run]) -> bool:
    return THIN in _outside(runs)


def _outside(runs: list[Run]) -> str:
    """What stands outside of all brackets."""
    text, depth = "", 0
    for character in "".join(run.text for run in runs if not run.level):
        depth -= character == ")"
        text += character if depth == 0 else ""
        depth += character == "("
    return text
