"""The one canonical form of a matrix expression: a sum of words.

    form = sum of words,   word = coefficient * sum over families * factor * factor * ...

Transposes sit at the leaves, products are distributed, the identity is the empty product. Two equal expressions have
equal forms up to the exact identities applied here, so the sites of approximations can be found by general rules.
Coefficients are sympy scalars. Everything is in the columns convention of the papers: tokens are columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import sympy

from crate_dsl.errors import fail
from crate_dsl.language.model import ONE
from crate_dsl.library.scalars import rename_index, scalar_indices, size, tidy

MOST_WORDS = 256  # of a form; products of sums grow exponentially when distributed, and passes try pairs of words


@dataclass(frozen=True)
class Leaf:
    """A named matrix, `rows x cols` before transposition; `index` marks the member of a family (`U[k]`)."""

    name: str
    rows: str
    cols: str
    index: str | None = None
    transposed: bool = False

    @property
    def shape(self) -> tuple[str, str]:
        return (self.cols, self.rows) if self.transposed else (self.rows, self.cols)

    @property
    def T(self) -> Leaf:
        return replace(self, transposed=not self.transposed)

    def __str__(self) -> str:
        return self.name + (f"[{self.index}]" if self.index else "") + ("'" if self.transposed else "")


@dataclass(frozen=True)
class Inverse:
    """`of^-1` of a square form."""

    of: Form

    @property
    def shape(self) -> tuple[str, str]:
        return (self.of.cols, self.of.rows)

    @property
    def T(self) -> Inverse:
        # The inverse of a symmetric form must be equal to its own transpose, or terms would not merge.
        return self if self.of.is_symmetric else Inverse(self.of.T)

    def __str__(self) -> str:
        return f"({self.of})^-1"


@dataclass(frozen=True)
class Function:
    """A registered function of matrices of one shape, which it keeps: `softmax` (column by column), `hadamard`, `exp`.

    `parameters` are its scalars, such as a threshold. Meanings stand in `library/functions.py`.
    """

    name: str
    arguments: tuple[Form, ...]
    parameters: tuple[sympy.Expr, ...] = ()
    transposed: bool = False

    @property
    def shape(self) -> tuple[str, str]:
        first = self.arguments[0]
        return (first.cols, first.rows) if self.transposed else (first.rows, first.cols)

    @property
    def T(self) -> Function:
        return replace(self, transposed=not self.transposed)

    def __str__(self) -> str:
        inner = ", ".join(map(str, self.arguments + self.parameters))
        return f"{self.name}({inner})" + ("'" if self.transposed else "")


@dataclass(frozen=True)
class Diagonal:
    """The diagonal matrix of a column, `of` being n x 1; made by `diagonal`. It is never stored as a matrix."""

    of: Form

    @property
    def shape(self) -> tuple[str, str]:
        return (self.of.rows, self.of.rows)

    @property
    def T(self) -> Diagonal:
        return self

    def __str__(self) -> str:
        return f"Diag({self.of})"


Factor = Leaf | Inverse | Function | Diagonal


@dataclass(frozen=True)
class Word:
    """`coefficient * sum(k in K) factor * factor * ...`; `over` lists the families summed, as (index, family)."""

    coefficient: sympy.Expr
    factors: tuple[Factor, ...]
    over: tuple[tuple[str, str], ...] = ()

    @property
    def T(self) -> Word:
        return replace(self, factors=tuple(factor.T for factor in reversed(self.factors)))

    @property
    def key(self) -> str:
        """What two words must share to be added."""
        return " ".join([f"sum({i} in {f})" for i, f in self.over] + [str(factor) for factor in self.factors])

    def __str__(self) -> str:
        product = " * ".join(map(str, self.factors)) or "I"
        sums = "".join(f"sum({i} in {f}) " for i, f in self.over)
        if self.coefficient in (1, -1):
            return ("-" if self.coefficient == -1 else "") + sums + product
        if scalar_indices(self.coefficient):
            return f"{sums}{_factor_text(self.coefficient)} * {product}"
        return f"{_factor_text(self.coefficient)} * {sums}{product}"


@cache
def _factor_text(coefficient: sympy.Expr) -> str:
    text = str(coefficient).replace("**", "^")
    return f"({text})" if coefficient.is_Add else text


@dataclass(frozen=True)
class Form:
    """A sum of words of one shape; no words is the zero matrix."""

    rows: str
    cols: str
    words: tuple[Word, ...]

    @staticmethod
    def of(rows: str, cols: str, words: Iterable[Word]) -> Form:
        """Merge words with equal keys and drop those that vanish; the order of first appearance stays."""
        merged: dict[str, Word] = {}
        for word in words:
            key = word.key
            total = tidy(word.coefficient + merged[key].coefficient) if key in merged else tidy(word.coefficient)
            merged[key] = Word(total, word.factors, word.over)
        return Form(rows, cols, tuple(word for word in merged.values() if word.coefficient != 0))

    @staticmethod
    def leaf(leaf: Leaf) -> Form:
        return Form(*leaf.shape, (Word(sympy.Integer(1), (leaf,)),))

    @staticmethod
    def identity(axis: str) -> Form:
        return Form(axis, axis, (Word(sympy.Integer(1), ()),))

    @staticmethod
    def scalar(value: sympy.Expr) -> Form:
        return Form.of(ONE, ONE, (Word(value, ()),))

    @staticmethod
    def zero(rows: str, cols: str) -> Form:
        return Form(rows, cols, ())

    @property
    def T(self) -> Form:
        return Form.of(self.cols, self.rows, (word.T for word in self.words))

    @property
    def is_zero(self) -> bool:
        return not self.words

    @property
    def is_symmetric(self) -> bool:
        return self.rows == self.cols and self.same(self.T)

    def same(self, other: Form) -> bool:
        """Equal as sums, whatever the order of the words."""
        mine = {word.key: word.coefficient for word in self.words}
        theirs = {word.key: word.coefficient for word in other.words}
        return mine.keys() == theirs.keys() and all(tidy(mine[k] - theirs[k]) == 0 for k in mine)

    def __add__(self, other: Form) -> Form:
        return Form.of(self.rows, self.cols, self.words + other.words)

    def __sub__(self, other: Form) -> Form:
        return self + other.scaled(sympy.Integer(-1))

    def __neg__(self) -> Form:
        return self.scaled(sympy.Integer(-1))

    def scaled(self, factor: sympy.Expr) -> Form:
        return Form.of(self.rows, self.cols, (replace(w, coefficient=w.coefficient * factor) for w in self.words))

    def __matmul__(self, other: Form) -> Form:
        """The matrix product, distributed.

        Raises:
            CrateError: where that gives more than `MOST_WORDS` words.
        """
        if len(self.words) * len(other.words) > MOST_WORDS:
            raise fail("this energy is a product of too many sums to be derived", None, "write it with fewer sums")
        return Form.of(self.rows, other.cols, (multiply(a, b) for a in self.words for b in other.words))

    def summed(self, index: str, family: str) -> Form:
        """`sum(index in family)` of every word; a word free of the index is counted once per member."""
        return Form.of(self.rows, self.cols, (_sum(word, index, family) for word in self.words))

    def __str__(self) -> str:
        if not self.words:
            return "0"
        text = str(self.words[0])
        for word in self.words[1:]:
            part = str(word)
            text += f" - {part[1:]}" if part.startswith("-") else f" + {part}"
        return text


def indices(factor: Factor) -> frozenset[str]:
    """The family indices that occur free in a factor."""
    match factor:
        case Leaf():
            return frozenset({factor.index} if factor.index else ())
        case Inverse() | Diagonal():
            return form_indices(factor.of)
        case Function():
            return frozenset().union(*map(form_indices, factor.arguments))


def form_indices(form: Form) -> frozenset[str]:
    return frozenset().union(*(word_indices(word) for word in form.words))


def word_indices(word: Word) -> frozenset[str]:
    """The free indices of a word: those that it does not sum itself."""
    inside = frozenset().union(*map(indices, word.factors)) | scalar_indices(word.coefficient)
    return inside - {index for index, _ in word.over}


def _sum(word: Word, index: str, family: str) -> Word:
    if index not in word_indices(word):
        return replace(word, coefficient=word.coefficient * size(family))
    return replace(word, over=(*word.over, (index, family)))


def multiply(left: Word, right: Word) -> Word:
    """Both words' factors in a row; an index that the right one sums is renamed where the left one holds it too."""
    clash = {i for i, _ in left.over} | word_indices(left)
    for index, _ in right.over:
        if index in clash:
            right = _renamed(right, index, _fresh(index, _all_indices(left) | _all_indices(right)))
    factors = _ordered(left.factors + right.factors)
    return Word(left.coefficient * right.coefficient, factors, left.over + right.over)


def _ordered(factors: tuple[Factor, ...]) -> tuple[Factor, ...]:
    """Diagonal matrices side by side commute: they stand in one order, so that equal words merge."""
    result: list[Factor] = []
    for factor in factors:
        place = len(result)
        while isinstance(factor, Diagonal) and place and isinstance(result[place - 1], Diagonal):
            if str(result[place - 1]) <= str(factor):
                break
            place -= 1
        result.insert(place, factor)
    return tuple(result)


def _fresh(index: str, taken: frozenset[str]) -> str:
    while index in taken:
        index += "_"
    return index


def _all_indices(word: Word) -> frozenset[str]:
    """Every index in a word, free or bound, also inside inverses and functions."""
    inner = (form for factor in word.factors for form in inner_forms(factor))
    nested = (_all_indices(w) for form in inner for w in form.words)
    return frozenset(i for i, _ in word.over).union(word_indices(word), *nested)


def inner_forms(factor: Factor) -> tuple[Form, ...]:
    """The forms inside a factor: of an inverse, of a diagonal, of a function's arguments."""
    match factor:
        case Leaf():
            return ()
        case Inverse() | Diagonal():
            return (factor.of,)
        case Function():
            return factor.arguments


def with_inner_forms(factor: Factor, change: Callable[[Form], Form]) -> Factor:
    """The factor with the forms inside it changed; a leaf has none."""
    match factor:
        case Inverse() | Diagonal():
            return replace(factor, of=change(factor.of))
        case Function():
            return replace(factor, arguments=tuple(map(change, factor.arguments)))
    return factor


def holds(word: Word, leaf: Leaf) -> bool:
    """Whether a matrix stands in a word, also inside its factors."""
    return any(other.name == leaf.name for other in leaves(Form(leaf.rows, leaf.cols, (word,))))


def _renamed(word: Word, old: str, new: str) -> Word:
    over = tuple((new if index == old else index, family) for index, family in word.over)
    return Word(
        rename_index(word.coefficient, old, new), tuple(_renamed_factor(f, old, new) for f in word.factors), over
    )


def _renamed_factor(factor: Factor, old: str, new: str) -> Factor:
    if isinstance(factor, Leaf):
        return replace(factor, index=new) if factor.index == old else factor
    return with_inner_forms(factor, lambda form: _renamed_form(form, old, new))


def _renamed_form(form: Form, old: str, new: str) -> Form:
    return Form(form.rows, form.cols, tuple(_renamed(word, old, new) for word in form.words))


def leaves(form: Form) -> Iterator[Leaf]:
    """Every leaf of a form, also inside inverses and functions."""
    for word in form.words:
        for factor in word.factors:
            if isinstance(factor, Leaf):
                yield factor
            for inner in inner_forms(factor):
                yield from leaves(inner)


def form_scalars(form: Form) -> Iterator[sympy.Expr]:
    """Every coefficient and parameter of a form, also inside inverses and functions."""
    for word in form.words:
        yield word.coefficient
        for factor in word.factors:
            yield from factor.parameters if isinstance(factor, Function) else ()
            for inner in inner_forms(factor):
                yield from form_scalars(inner)
