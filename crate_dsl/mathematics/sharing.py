"""Names for shared products, for reading: `sum_k U_k (U_k' Z) (I + (U_k' Z)' (U_k' Z))^-1` with `W_k = U_k' Z`.

The rule is general: in a form, the adjacent pair of matrices that occurs most often, up to transposition, takes a free
letter wherever it stands, as long as some pair occurs twice; pairs with a letter in them are left alone, since letters
for letters hide more than they shorten. Nothing is computed with these names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from crate_dsl.library.form import Factor, Form, Leaf, Word, inner_forms, with_inner_forms
from crate_dsl.library.products import single

LETTERS = ("W", "V", "S", "P", "Q", "R", "T", "H", "M", "B", "C", "E", "F")
Pair = tuple[Leaf, Leaf]


@dataclass(frozen=True)
class Definition:
    """`name = left * right`; `name` is the letter's leaf, untransposed."""

    name: Leaf
    product: Form


@dataclass
class Letters:
    """The letters given out so far in one step of a network, so that one product keeps one letter throughout it."""

    taken: set[str]
    given: dict[Pair, Leaf] = field(default_factory=dict)

    def name(self, pair: Pair, indices: tuple[str, ...]) -> Leaf | None:
        """The leaf for a pair; None where the letters are used up."""
        if pair not in self.given:
            free = [letter for letter in LETTERS if letter not in self.taken]
            if not free:
                return None
            self.taken.add(free[0])
            left, right = pair
            self.given[pair] = Leaf(free[0], left.shape[0], right.shape[1], indices[0] if indices else None)
        return self.given[pair]


def shared(form: Form, letters: Letters) -> tuple[Form, tuple[Definition, ...]]:
    """The form with letters for its repeated products, and what the letters stand for, in order of definition."""
    definitions: list[Definition] = []
    while (pair := _most_frequent(form, letters)) is not None:
        leaf = letters.name(pair, _indices(pair))
        if leaf is None:
            break
        definitions.append(Definition(leaf, single(*leaf.shape, *pair)))
        form = _named(form, pair, leaf)
    return form, tuple(definitions)


def _most_frequent(form: Form, letters: Letters) -> Pair | None:
    """The pair that occurs most often, in its more frequent orientation; None where none occurs twice."""
    given = {leaf.name for leaf in letters.given.values()}
    pairs = (pair for word in _words(form) for pair in _pairs(word))
    counts = Counter(pair for pair in pairs if not given & {leaf.name for leaf in pair})
    totals = {pair: counts[pair] + (counts[_turned(pair)] if _turned(pair) != pair else 0) for pair in counts}
    best = max(totals, key=lambda pair: (totals[pair], counts[pair]), default=None)
    return best if best is not None and totals[best] > 1 else None


def _pairs(word: Word) -> Iterator[Pair]:
    for left, right in zip(word.factors, word.factors[1:], strict=False):
        if isinstance(left, Leaf) and isinstance(right, Leaf) and _nameable((left, right)):
            yield left, right


def _nameable(pair: Pair) -> bool:
    """Vectors of ones stay as they are, and a letter carries one index at most."""
    return all(leaf.name != "ones" for leaf in pair) and len(_indices(pair)) <= 1


def _indices(pair: Pair) -> tuple[str, ...]:
    return tuple(dict.fromkeys(leaf.index for leaf in pair if leaf.index))


def _turned(pair: Pair) -> Pair:
    return pair[1].T, pair[0].T


def _words(form: Form) -> Iterator[Word]:
    """All words of a form, also those inside inverses and functions."""
    for word in form.words:
        yield word
        for factor in word.factors:
            for inner in inner_forms(factor):
                yield from _words(inner)


def _named(form: Form, pair: Pair, leaf: Leaf) -> Form:
    words = (replace(word, factors=tuple(_named_factors(word.factors, pair, leaf))) for word in form.words)
    return Form(form.rows, form.cols, tuple(words))


def _named_factors(factors: Iterable[Factor], pair: Pair, leaf: Leaf) -> list[Factor]:
    """The factors from left to right, with the letter for every occurrence of the pair that does not overlap."""
    result: list[Factor] = []
    for factor in factors:
        factor = with_inner_forms(factor, lambda form: _named(form, pair, leaf))
        found = (result[-1], factor) if result else None
        if found == pair:
            result[-1] = leaf
        elif found == _turned(pair):
            result[-1] = leaf.T
        else:
            result.append(factor)
    return result
