"""LaTeX of scalars, forms, trees, proximal maps and the equations of a derivation, in the notation of the papers.

A formula comes as pieces, its top-level summands, so that whoever sets it can break the lines. Everything here is built
from checked names (letters, digits, underscores) and numbers.
"""

from __future__ import annotations

import re

import sympy

from crate_dsl.errors import CompilerBug
from crate_dsl.language.model import ONE
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Diagonal, Factor, Form, Function, Inverse, Leaf, Word
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.library.tree import Apply, Matrix, Scalar, SoftmaxOver, SumOver, Tree
from crate_dsl.mathematics.derivation import Piece, Prox
from crate_dsl.mathematics.equations import (
    OPEN,
    PRODUCT,
    SUM,
    TIGHT,
    Bound,
    Equation,
    Left,
    ProxOf,
    Right,
    around,
    signed,
)
from crate_dsl.mathematics.latex_names import decorated, leaf, member, parens, scalar, symbol

TEMPLATES = {"reciprocal": r"\left({0}\right)^{{\odot -1}}", "hadamard": r"{0} \odot {1}",
             "scaled": r"\left({0}\right)", "exp": r"\exp\left({0}\right)", "log": r"\log\left({0}\right)",
             "log1p": r"\log\left(1 + {0}\right)", "root": r"\left({0}\right)^{{\odot 1/2}}",
             "unit_rows": r"\operatorname{{unit}}\left({0}\right)", "gelu": r"\operatorname{{GELU}}\left({0}\right)",
             "gelu_slope": r"\operatorname{{GELU}}'\left({0}\right)",
             "gelu_potential": r"\Gamma\left({0}\right)",
             "softplus": r"\operatorname{{softplus}}\left({0}\right)",
             "sigmoid": r"\sigma\left({0}\right)"}  # fmt: skip


# ---- forms ---------------------------------------------------------------------------------------------------------


def form(value: Form) -> list[str]:
    """The summands, each with its sign from the second on."""
    return signed([_word(word, value) for word in value.words]) or ["0"]


def _whole(value: Form) -> str:
    return " ".join(form(value))


def _word(word: Word, within: Form) -> str:
    outer, inner = around(word)
    factors = [_factor(f, len(word.factors) + (word.coefficient != 1) > 1) for f in word.factors]
    is_number = within.rows == within.cols == ONE
    product = " ".join(factors) or ("" if is_number else "I")
    sums = "".join(rf"\sum_{{{member(i)}=1}}^{{{symbol(family)}}} " for i, family in word.over)
    return _times(outer, sums + _times(inner, product)) or "1"


def _times(coefficient: sympy.Expr, product: str) -> str:
    """`coefficient product`; ones vanish, sums take brackets."""
    if coefficient == 1:
        return product
    if coefficient == -1 and product:
        return f"-{product}"
    text = scalar(coefficient)
    text = parens(text) if coefficient.is_Add and product else text
    return f"{text} {product}".rstrip()


def _factor(factor: Factor, among: bool) -> str:
    match factor:
        case Leaf():
            return leaf(factor)
        case Inverse():
            return f"{parens(_whole(factor.of))}^{{-1}}"
        case Diagonal():
            return rf"\operatorname{{Diag}}{parens(_whole(factor.of))}"
        case Function():
            return _function(factor, among)


def _function(value: Function, among: bool) -> str:
    if value.name not in FUNCTIONS:
        raise CompilerBug(f"no notation for the function {value.name}")
    template = TEMPLATES.get(value.name)
    if template:
        loose = [_is_loose(a) and not _enclosed(template, n) for n, a in enumerate(value.arguments)]
        inner = [_bracketed(_whole(a), o) for a, o in zip(value.arguments, loose, strict=True)]
        text = template.format(*inner, *map(scalar, value.parameters))
    else:
        inner = ", ".join([*map(_whole, value.arguments), *map(scalar, value.parameters)])
        name = value.name.replace("_", r"\_")
        text = rf"\operatorname{{{name}}}{parens(inner)}"
    closed = template is None or _enclosed(template, 0)
    text = _bracketed(text, not closed and (among or value.transposed))
    return _base(text) + r"^{\top}" if value.transposed else text


def _base(text: str) -> str:
    """What a superscript can be put to: LaTeX takes no second one, so a text that ends in one is grouped."""
    return f"{{{text}}}" if re.search(r"\^(\{[^{}]*\}|\\top)$", text) else text


def _is_loose(form: Form) -> bool:
    """Whether a form needs brackets beside an operator: all but a single factor."""
    return [len(word.factors) for word in form.words] != [1] or form.words[0].coefficient != 1


def _bracketed(text: str, wanted: bool) -> str:
    return parens(text) if wanted else text


def _enclosed(template: str, place: int) -> bool:
    """Whether a template puts delimiters of its own around an argument."""
    before = template.partition(f"{{{place}}}")[0].rstrip()
    return before.endswith(("(", "[", ",", r"\lVert", "|", "{{"))


# ---- trees ---------------------------------------------------------------------------------------------------------

NEEDS = {"plus": (SUM, SUM), "minus": (SUM, OPEN), "add_column": (SUM, OPEN), "times": (PRODUCT, TIGHT),
         "hadamard": (TIGHT, TIGHT), "transpose": (TIGHT,)}  # fmt: skip
LEVELS = {"plus": SUM, "minus": SUM, "add_column": SUM, "times": PRODUCT, "hadamard": OPEN, "transpose": TIGHT}


def tree(value: Tree) -> list[str]:
    """The summands of an energy, each with its sign from the second on."""
    match value:
        case Apply(atom="plus", arguments=(first, second)):
            return tree(first) + signed(["", *tree(second)])[1:]
        case Apply(atom="minus", arguments=(first, second)):
            return tree(first) + ["- " + _bounded(second, OPEN)]
    return [_tree(value)[0]]


def _bounded(value: Tree, level: int) -> str:
    """The text of a tree where at least this level is needed; a leading sign needs brackets there."""
    text, own = _tree(value)
    return _bracketed(text, own < level or (level > SUM and text.startswith("-")))


def _tree(value: Tree) -> tuple[str, int]:
    """The text and how strongly it holds together."""
    match value:
        case Matrix():
            return leaf(value.leaf), TIGHT
        case Scalar():
            return scalar(value.value), SUM if value.value.is_Add else PRODUCT
        case SumOver():
            sign = rf"\sum_{{{member(value.index)}=1}}^{{{symbol(value.family)}}}"
            return f"{sign} {_bounded(value.body, OPEN)}", OPEN
        case SoftmaxOver():
            sign = rf"\operatorname{{softmax}}_{{{member(value.index)} \leq {symbol(value.family)}}}"
            return f"{sign} {_bounded(value.body, OPEN)}", OPEN
        case Apply(atom="I"):
            return "I", TIGHT
        case Apply(atom="plus" | "minus"):
            return " ".join(tree(value)), SUM
        case Apply(atom="scale", arguments=(Scalar() as factor, operand)):
            inner = _bounded(operand, OPEN)
            return _times(factor.value, inner), OPEN if isinstance(operand, SumOver) else PRODUCT
        case Apply() if value.atom in ATOMS and ATOMS[value.atom].latex:
            return _atom(value)
    raise CompilerBug(f"no notation for {value}")


def _atom(value: Apply) -> tuple[str, int]:
    template = ATOMS[value.atom].latex
    own = tuple(SUM if _enclosed(template, n) else PRODUCT for n in range(len(value.arguments)))
    texts = list(map(_bounded, value.arguments, NEEDS.get(value.atom, own)))
    if value.atom == "transpose":
        texts = [_base(texts[0])]
    closed = TIGHT if template.endswith(r"\right)") else PRODUCT
    return template.format(*texts), LEVELS.get(value.atom, closed)


# ---- proximal maps -------------------------------------------------------------------------------------------------


def prox(value: Prox) -> list[str]:
    """By cases of the entry v."""
    rows = [rf"{_affine(p)} & \text{{if }} {_interval(p)}" for p in value.pieces]
    if len(rows) == 1:
        return [_affine(value.pieces[0])]
    return [r"\begin{cases} " + r" \\ ".join(rows) + r" \end{cases}"]


def _affine(piece: Piece) -> str:
    return scalar_sum(piece.slope, piece.intercept)


def scalar_sum(slope: sympy.Expr, intercept: sympy.Expr) -> str:
    parts = ([_times(slope, "v")] if slope != 0 else []) + ([scalar(intercept)] if intercept != 0 else [])
    return " ".join(signed(parts)) or "0"


def _interval(piece: Piece) -> str:
    lower, upper = (scalar(end) for end in (piece.lower, piece.upper))
    if piece.lower == -sympy.oo:
        return rf"v \leq {upper}" if piece.upper != sympy.oo else r"v \in \mathbb{R}"
    return rf"v \geq {lower}" if piece.upper == sympy.oo else rf"{lower} \leq v \leq {upper}"


def bound(value: Bound) -> str:
    """A closed form of a proximal map: max, min, clip or soft threshold."""
    match value:
        case Bound(kind="soft", first=(slope, shift)):
            return _times(slope, rf"\operatorname{{sign}}(v)\,\max\left(\left|v\right| - {scalar(shift)},\ 0\right)")
        case Bound(kind="clip", first=(slope, shift), second=low, third=high):
            return rf"\min\left(\max\left({scalar_sum(slope, shift)},\ {scalar(low)}\right),\ {scalar(high)}\right)"
        case Bound(first=first, second=second):
            return rf"\{value.kind}\left({scalar_sum(*first)},\ {scalar_sum(*second)}\right)"
    raise CompilerBug(f"no notation for {value}")


# ---- equations -----------------------------------------------------------------------------------------------------


def left(value: Left) -> str:
    """What stands before the equals sign; empty for none."""
    match value:
        case Left(kind="leaf"):
            return leaf(value.leaf)
        case Left(kind="energy"):
            bar = r" \mid " if value.given else ""
            inner = ", ".join(map(_argument, value.variables)) + bar + ", ".join(map(_argument, value.given))
            return symbol(value.name) + parens(inner)
        case Left(kind="gradient"):
            return rf"\nabla_{{{leaf(value.leaf)}}}\, {symbol(value.name)}"
        case Left(kind="symbol"):
            return symbol(value.name)
        case Left(kind="zero"):
            return "0"
        case Left(kind="prox"):
            return rf"{prox_name(value.size)}(v)"
        case Left(kind="none"):
            return ""
    raise CompilerBug(f"no notation for {value}")


def _argument(text: str) -> str:
    return decorated(text, None, False)


def prox_name(size: sympy.Expr) -> str:
    return rf"\operatorname{{prox}}_{{{_times(size, 'g')}}}"


def right(value: Right) -> list[str]:
    match value:
        case Form():
            return form(value)
        case Prox():
            return prox(value)
        case ProxOf():
            return [prox_name(value.size) + parens(_whole(value.of))]
        case Bound():
            return [bound(value)]
    return tree(value)


def equation(value: Equation) -> tuple[str, list[str]]:
    """The left side and the pieces of the right side."""
    return left(value.left), right(value.right)


# ---- setting -------------------------------------------------------------------------------------------------------

LINE = 70  # characters of a line in print, roughly


def length(text: str) -> int:
    """Roughly how many characters a formula is wide; signs stand between spaces, words have their letters."""
    text = re.sub(r"\\(log|det|exp|max|min|sum)\b|[+=-]|\\odot\b", "xxx", text)
    bare = re.sub(r"\\(left|right|mathrm|operatorname|text|bar|mathbf|begin|end|frac)\b|[{}^_&]", "", text)
    return len(re.sub(r"\\[A-Za-z]+|\\.", "x", bare).replace(" ", ""))


def broken(start: str, pieces: list[str]) -> list[str]:
    """The lines of `start = pieces`, broken between pieces, each with its `&` at the place of alignment."""
    line, indent = f"{start} &= {pieces[0]}" if start else f"& {pieces[0]}", length(start)
    lines: list[str] = []
    for piece in pieces[1:]:
        if length(line) + (indent if lines else 0) + length(piece) > LINE:
            lines.append(line)
            line = rf"&\quad {piece}"
        else:
            line += f" {piece}"
    return [*lines, line]


def width(start: str, rows: list[str]) -> int:
    """The width of broken lines: those from the second on stand right of the first one's left side."""
    return max([length(rows[0]), *(length(start) + length(row) for row in rows[1:])])
