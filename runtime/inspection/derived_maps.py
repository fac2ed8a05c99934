"""What a derived step takes of which token, read off its own formula: the N x N matrix that its tokens are mixed with.

The last assignment of a step is a sum of words P T, where P (d x N) ends at the first factor that has a column for
every token and T (N x N) is what comes after: a softmax, an inverse (I + a G)^-1, a polynomial of the Gram matrix, a
diagonal of memberships. It is there for every step that mixes tokens, fused attention or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crate_dsl.library.form import Diagonal, Factor, Form, Function, Inverse, Word
from crate_dsl.mathematics.evaluate import Point, execute, form_value
from runtime.errors import Inapplicable
from runtime.inspection.places import Place, columns

ABSENT = "no step of this network mixes tokens by a matrix of their own"


@dataclass(frozen=True)
class Mixing:
    """Words of one assignment that share what stands left of T.

    `number` is that of the assignment among the step's; `prefix` are the factors of P; `words` are T, each with its
    coefficient over that of the first, as words of size N x N; `first` is the first word as it stands.
    """

    number: int
    prefix: tuple[Factor, ...]
    words: tuple[Word, ...]
    first: Word

    @property
    def factors(self) -> tuple[Factor, ...]:
        return tuple(factor for word in self.words for factor in word.factors)

    @property
    def is_diagonal(self) -> bool:
        return all(isinstance(factor, Diagonal) for factor in self.factors)

    @property
    def has_identity(self) -> bool:
        """Whether T keeps every token to begin with: an inverse (I + a G)^-1, or its series I - a G + ..."""
        return any(not word.factors or isinstance(word.factors[0], Inverse) for word in self.words)

    def values(self, point: Point) -> np.ndarray:
        """T of every head, (heads, N, N); one where the words have no family."""
        axis = self.prefix[-1].shape[1]
        if not self.first.over:
            return form_value(Form.of(axis, axis, self.words), point)[None]
        (index, family), *rest = self.first.over
        form = Form.of(axis, axis, [Word(word.coefficient, word.factors, tuple(rest)) for word in self.words])
        return np.stack([form_value(form, point.at(index, k)) for k in range(point.size(family))])


def mixing(place: Place) -> Mixing:
    """That of the last assignment that has one; raises Inapplicable where there is none."""
    axis = place.derived.raw.cols
    for number, assignment in reversed(list(enumerate(place.derived.assignments))):
        groups: dict[object, list[tuple[Word, tuple[Factor, ...], tuple[Factor, ...]]]] = {}
        for word, prefix, rest in split(assignment.value.words, axis):
            groups.setdefault((prefix, word.over), []).append((word, prefix, rest))
        for group in groups.values():
            if any(rest for _, _, rest in group):
                first, prefix, _ = group[0]
                words = tuple(Word(word.coefficient / first.coefficient, rest, ()) for word, _, rest in group)
                return Mixing(number, prefix, words, first)
    raise Inapplicable(ABSENT)


def split(words: Sequence[Word], axis: str) -> Iterator[tuple[Word, tuple[Factor, ...], tuple[Factor, ...]]]:
    """Every word with its factors up to the first whose columns are the tokens, and those after it."""
    for word in words:
        ends = [number for number, factor in enumerate(word.factors, 1) if factor.shape[1] == axis]
        if ends:
            yield word, word.factors[: ends[0]], word.factors[ends[0] :]


def mixes(place: Place) -> bool:
    try:
        return mixing(place) is not None
    except Inapplicable:
        return False


def kind_of(place: Place) -> str:
    """What the maps of `derived_maps` are, in words."""
    found = mixing(place)
    functions = list(dict.fromkeys(factor.name for factor in found.factors if isinstance(factor, Function)))
    if found.is_diagonal:
        return "memberships, since statistics of the tokens move them and no token takes of another"
    if any(isinstance(factor, Inverse) for factor in found.factors):
        return "modulus of I - (I + a G)^-1, the weights of a ridge regression of every token on all"
    if functions:
        mixed = [word for word in found.words if any(isinstance(factor, Function) for factor in word.factors)]
        both = "sum of both directions of the " if len(mixed) > 1 else ""  # what keeps the tokens is no direction
        return f"{both}{' and '.join(functions)} of the Gram matrix"
    return "modulus of the polynomial of the Gram matrix that the tokens are multiplied by, without its identity"


def mixing_values(place: Place, tokens: np.ndarray) -> np.ndarray:
    """T of every head, (heads, N, N), at the tokens (d, N) as the step reads them.

    The entry j, i is what token i takes of token j.
    """
    found = mixing(place)
    return found.values(execute(place.derived.assignments[: found.number], place.point(tokens)))


def derived_maps(place: Place, tokens: Tensor) -> Tensor:
    """Weights (batch, heads, N, N), none negative, of tokens (batch, N, d) that come into the step.

    Row i holds what token i takes of every token, as attention maps do. Where T keeps every token to begin with, it is
    what I - T takes away; of a diagonal T, which lets no token take of another, every row is the diagonal.
    """
    found, maps = mixing(place), []
    for each in columns(place.read(tokens)):
        values = mixing_values(place, each)
        if found.is_diagonal:
            values = np.broadcast_to(np.diagonal(values, axis1=1, axis2=2)[:, :, None], values.shape)
        elif found.has_identity:
            values = np.eye(values.shape[-1]) - values
        maps.append(torch.as_tensor(np.abs(values).swapaxes(-1, -2).copy()))
    return torch.stack(maps)
