"""The same equations in the language's own notation, for terminals: `U[k]' * Z`, `sum(k in K)`, `norm(Z)`."""

from __future__ import annotations

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

OPERATORS = {"plus": (" + ", SUM, SUM, SUM), "minus": (" - ", SUM, OPEN, SUM),
             "add_column": (" .+ ", SUM, OPEN, SUM), "times": (" * ", PRODUCT, TIGHT, PRODUCT),
             "hadamard": (" .* ", TIGHT, TIGHT, OPEN)}  # fmt: skip


def scalar(value: sympy.Expr) -> str:
    """A coefficient; small decimals are written as such: 1e-08, not 1/100000000."""
    small = {r for r in value.atoms(sympy.Rational) if r.q > 1000 and sympy.Rational(repr(float(r))) == r}
    value = value.xreplace({r: sympy.Symbol(repr(float(r)), positive=True) for r in small})
    return str(value).replace("**", "^").replace("Abs(", "abs(")


def leaf(value: Leaf) -> str:
    return f"ones({value.rows})" + ("'" if value.transposed else "") if value.name == "ones" else str(value)


def _bracketed(text: str, wanted: bool) -> str:
    return f"({text})" if wanted else text


# ---- forms ---------------------------------------------------------------------------------------------------------


def form(value: Form) -> list[str]:
    """The summands, each with its sign from the second on."""
    return signed([_word(word, value) for word in value.words]) or ["0"]


def _whole(value: Form) -> str:
    return " ".join(form(value))


def _word(word: Word, within: Form) -> str:
    outer, inner = around(word)
    product = " * ".join(map(_factor, word.factors)) or ("" if within.rows == within.cols == ONE else "I")
    sums = "".join(f"sum({i} in {family}) " for i, family in word.over)
    return _times(outer, sums + _times(inner, product)) or "1"


def _times(coefficient: sympy.Expr, product: str) -> str:
    """`coefficient * product`; ones vanish, sums take brackets."""
    if coefficient == 1:
        return product
    if coefficient == -1 and product:
        return f"-{product}"
    text = _bracketed(scalar(coefficient), bool(coefficient.is_Add and product))
    return f"{text} * {product}" if product else text


def _factor(factor: Factor) -> str:
    match factor:
        case Leaf():
            return leaf(factor)
        case Inverse():
            return f"({_whole(factor.of)})^-1"
        case Diagonal():
            return f"diag({_whole(factor.of)})"
        case Function():
            if factor.name not in FUNCTIONS:
                raise CompilerBug(f"no notation for the function {factor.name}")
            inner = ", ".join([*map(_whole, factor.arguments), *map(scalar, factor.parameters)])
            return f"{factor.name}({inner})" + ("'" if factor.transposed else "")


# ---- trees ---------------------------------------------------------------------------------------------------------


def tree(value: Tree) -> list[str]:
    """The summands of an energy, each with its sign from the second on."""
    match value:
        case Apply(atom="plus", arguments=(first, second)):
            return tree(first) + signed(["", *tree(second)])[1:]
        case Apply(atom="minus", arguments=(first, second)):
            return tree(first) + ["- " + _bounded(second, OPEN)]
    return [_tree(value)[0]]


def _bounded(value: Tree, level: int) -> str:
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
            return f"sum({value.index} in {value.family}) {_bounded(value.body, OPEN)}", OPEN
        case SoftmaxOver():
            return f"softmax({value.index} in {value.family}) {_bounded(value.body, OPEN)}", OPEN
        case Apply(atom="I"):
            return "I", TIGHT
        case Apply(atom="plus" | "minus"):
            return " ".join(tree(value)), SUM
        case Apply(atom="scale", arguments=(Scalar() as factor, operand)):
            inner = _bounded(operand, OPEN)
            return _times(factor.value, inner), OPEN if isinstance(operand, SumOver) else PRODUCT
        case Apply(atom="transpose", arguments=(operand,)):
            return _bounded(operand, TIGHT) + "'", TIGHT
        case Apply(arguments=(first, second)) if value.atom in OPERATORS:
            sign, low, high, level = OPERATORS[value.atom]
            return _bounded(first, low) + sign + _bounded(second, high), level
        case Apply() if value.atom in ATOMS:
            return f"{value.atom}({', '.join(' '.join(tree(a)) for a in value.arguments)})", TIGHT
    raise CompilerBug(f"no notation for {value}")


# ---- proximal maps and equations -----------------------------------------------------------------------------------


def prox(value: Prox) -> list[str]:
    """By cases of the entry v, separated by semicolons."""
    if len(value.pieces) == 1:
        return [_affine(value.pieces[0].slope, value.pieces[0].intercept)]
    cases = [f"{_affine(p.slope, p.intercept)} if {_interval(p)}" for p in value.pieces]
    return [f"{case};" for case in cases[:-1]] + cases[-1:]


def _affine(slope: sympy.Expr, intercept: sympy.Expr) -> str:
    parts = ([_times(slope, "v")] if slope != 0 else []) + ([scalar(intercept)] if intercept != 0 else [])
    return " ".join(signed(parts)) or "0"


def _interval(piece: Piece) -> str:
    lower, upper = (scalar(end) for end in (piece.lower, piece.upper))
    if piece.lower == -sympy.oo:
        return f"v <= {upper}"
    return f"v >= {lower}" if piece.upper == sympy.oo else f"{lower} <= v <= {upper}"


def bound(value: Bound) -> str:
    """A closed form of a proximal map."""
    match value:
        case Bound(kind="soft", first=(slope, shift)):
            return _times(slope, f"sign(v) * max(abs(v) - {scalar(shift)}, 0)")
        case Bound(kind="clip", first=line, second=low, third=high):
            return f"min(max({_affine(*line)}, {scalar(low)}), {scalar(high)})"
        case Bound(kind="max" | "min", first=first, second=second):
            return f"{value.kind}({_affine(*first)}, {_affine(*second)})"
    raise CompilerBug(f"no notation for {value}")


def left(value: Left) -> str:
    """What stands before the equals sign; empty for none."""
    match value:
        case Left(kind="leaf"):
            return leaf(value.leaf)
        case Left(kind="energy"):
            bar = " | " if value.given else ""
            return f"{value.name}({', '.join(value.variables)}{bar}{', '.join(value.given)})"
        case Left(kind="gradient"):
            return f"grad_{leaf(value.leaf)} {value.name}"
        case Left(kind="symbol"):
            return value.name
        case Left(kind="zero"):
            return "0"
        case Left(kind="prox"):
            return f"{prox_name(value.size)}(v)"
        case Left(kind="none"):
            return ""
    raise CompilerBug(f"no notation for {value}")


def prox_name(size: sympy.Expr) -> str:
    return f"prox[{_times(size, 'g')}]"


def right(value: Right) -> list[str]:
    match value:
        case Form():
            return form(value)
        case Prox():
            return prox(value)
        case ProxOf():
            return [f"{prox_name(value.size)}({_whole(value.of)})"]
        case Bound():
            return [bound(value)]
    return tree(value)


def equation(value: Equation) -> tuple[str, list[str]]:
    """The left side and the pieces of the right side."""
    return left(value.left), right(value.right)
