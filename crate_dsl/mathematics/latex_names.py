"""LaTeX of names, indices and scalars, and of text that must not be LaTeX."""

from __future__ import annotations

import re

import sympy

from crate_dsl.library.form import Leaf

GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega".split()
)
SPELLED = {"epsilon": r"\varepsilon", "phi": r"\varphi"}
ESCAPES = {"\\": r"\textbackslash{}", "~": r"$\sim$", "^": r"\textasciicircum{}", "<": r"\textless{}",
           ">": r"\textgreater{}", "|": r"\textbar{}", "'": r"\textquotesingle{}", '"': "''",
           **{c: "\\" + c for c in "#$%&_{}"}}  # fmt: skip
COMPOSED = frozenset(map(chr, range(0xC0, 0x100))) - frozenset("ÐÞðþ")


def escaped(text: str) -> str:
    """Free text for LaTeX: no character keeps a meaning; beyond ASCII only what every LaTeX font composes is kept."""
    return "".join(ESCAPES.get(c, c if c in COMPOSED or " " <= c <= "~" else "?") for c in text.replace("\t", "    "))


# ---- names ---------------------------------------------------------------------------------------------------------


def name(text: str) -> tuple[str, list[str], list[str]]:
    """Base, superscripts and subscripts of a name: `D1` is D_1, `U_out` is U^out, `A^1` is A^(1), `Z+` is Z^+."""
    if inner := re.fullmatch(r"norm\((.+)\)", text):
        base, above, below = name(inner[1])
        return rf"\bar{{{base}}}", above, below
    plus = text.endswith("+")
    text, _, power = text.removesuffix("+").partition("^")
    above = ([f"({power})"] if power else []) + (["+"] if plus else [])
    base, words, digits = _parts(text)
    return base, [rf"\mathrm{{{word}}}" for word in words] + above, digits


def _parts(text: str) -> tuple[str, list[str], list[str]]:
    """A letter with the words and the numbers behind it; a name that starts with a whole word stays whole."""
    stem, *rest = text.split("_")
    letters, digits = re.fullmatch(r"(.*?)(\d*)", stem).groups()
    if not (len(letters) == 1 or letters in GREEK) or not all(rest):
        shown = text.replace("_", r"\_")
        return rf"\mathrm{{{shown}}}", [], []
    numbers = ([digits] if digits else []) + [part for part in rest if part.isdigit()]
    return _letter(letters), [part for part in rest if not part.isdigit()], numbers


def _letter(text: str) -> str:
    return SPELLED.get(text, f"\\{text}") if text in GREEK else text


def symbol(text: str) -> str:
    """A scalar or a size, also a member of a family (`kappa[k]`); words go below, since a power stands above."""
    if text.isdigit():
        return text
    stem, _, index = text.partition("[")
    if not re.fullmatch(r"\w+", stem):  # a held number: `total(Pi)[k]`
        return _held(stem) + (f"_{{{member(index[:-1])}}}" if index else "")
    base, words, numbers = _parts(stem)
    below = [*(rf"\mathrm{{{word}}}" for word in words), *numbers, *([member(index[:-1])] if index else [])]
    return base + (f"_{{{','.join(below)}}}" if below else "")


def _held(text: str) -> str:
    """An expression in the language's notation, its names set as such."""
    words = re.sub(r"[A-Za-z]\w*", lambda found: name(found[0])[0], text)
    return words.replace("^", r"\hat{}").replace(" * ", " ").replace(".*", r"\odot").replace(".+", r"\oplus")


def decorated(text: str, index: str | None, transposed: bool) -> str:
    base, above, below = name(text)
    above = above + [r"\top"] * transposed
    below = below + ([member(index)] if index else [])
    return base + (f"_{{{','.join(below)}}}" if below else "") + (f"^{{{_joined(above)}}}" if above else "")


def _joined(parts: list[str]) -> str:
    return r"\,".join(parts)


def member(index: str) -> str:
    """An index that was renamed apart, `k_`, is k'."""
    return index.rstrip("_") + "'" * (len(index) - len(index.rstrip("_")))


def leaf(value: Leaf) -> str:
    if value.name == "ones":
        return rf"\mathbf{{1}}_{{{symbol(value.rows)}}}" + (r"^{\top}" if value.transposed else "")
    return decorated(value.name, value.index, value.transposed)


def scalar(value: sympy.Expr) -> str:
    names = {s: symbol(s.name) for s in value.free_symbols}
    return sympy.latex(value, symbol_names=names)


def parens(text: str) -> str:
    """Brackets as high as what they hold."""
    return rf"\left({text}\right)" if re.search(r"\\(frac|sum|left|begin|sqrt|bar)\b", text) else f"({text})"
