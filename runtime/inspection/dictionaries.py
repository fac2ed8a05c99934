"""Numbers of a dictionary D (d x m, its columns the atoms), and the step sizes that sparse coding with it allows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crate_dsl.library.form import Leaf
from crate_dsl.mathematics.differentiate import gradient
from crate_dsl.mathematics.evaluate import Point, scalar_value
from crate_dsl.mathematics.proximal_step import split
from runtime.inspection.places import Place
from runtime.inspection.subspaces import from_identity


@dataclass(frozen=True)
class Dictionary:
    """`coherence` is the largest |cosine| of two atoms, `typical` the mean one, `welch` the least that any d x m has.

    `values` are the singular values, falling; `tightness` is the distance of the smaller Gram matrix from its nearest
    multiple of the identity: of a square D that from orthogonality, of a wide D that from a tight frame. `empty` counts
    atoms that are zero; they have no cosine. `coherence` and `typical` are nan where there are no two atoms.
    """

    coherence: float
    typical: float
    welch: float
    values: np.ndarray
    tightness: float
    empty: int

    @property
    def condition(self) -> float:
        """Largest over smallest singular value; infinite where that is 0."""
        return float(self.values[0] / self.values[-1]) if self.values[-1] else float("inf")


def dictionary(atoms: np.ndarray) -> Dictionary:
    """The numbers of a d x m matrix."""
    rows, columns = atoms.shape
    coherence, typical, empty = coherences(atoms)
    gram = atoms @ atoms.T if columns >= rows else atoms.T @ atoms
    values = np.linalg.svd(atoms, compute_uv=False)
    return Dictionary(coherence, typical, welch(rows, columns), values, from_identity(gram).scaled, empty)


def coherences(atoms: np.ndarray) -> tuple[float, float, int]:
    """Largest and mean |cosine| of two atoms, and how many atoms are zero."""
    lengths = np.linalg.norm(atoms, axis=0)
    unit = atoms[:, lengths > 0] / lengths[lengths > 0]
    count = unit.shape[1]
    if count < 2:
        return np.nan, np.nan, int((lengths == 0).sum())
    cosines = np.abs(unit.T @ unit)
    np.fill_diagonal(cosines, 0)
    return float(cosines.max()), float(cosines.sum() / (count * (count - 1))), int((lengths == 0).sum())


def welch(rows: int, columns: int) -> float:
    """The bound of Welch 1974 on the coherence of `columns` unit vectors in `rows` dimensions; 0 where they fit."""
    return float(np.sqrt(max(0, columns - rows) / (rows * max(1, columns - 1))))


# ---- step sizes ----------------------------------------------------------------------------------------------------


def step_sizes(place: Place) -> list[float]:
    """eta of every iteration of a proximal step, as it is now where it is learned; none of other steps."""
    point = Point(place.block.sizes, place.scalars(), {})
    sizes = (each.size or place.derived.size for each in place.derived.assignments if each.prox)
    return [scalar_value(size, point) for size in sizes]


def lipschitz(place: Place, name: str, norm: float) -> float | None:
    """The Lipschitz constant of the gradient of the smooth part of the energy, c |D|^2; None where it has another form.

    The gradient is derived from the stated energy: it is to hold the unknown in one word, c D' D A. `norm` is the
    largest singular value of the matrix `name`.
    """
    unknown = place.derived.objective.variable
    smooth, _ = split(place.derived.objective.energy, unknown)
    words = [
        (term.weight * word.coefficient, word)
        for term in smooth
        for word in gradient(term.tree, unknown).words
        if any(unknown.name in str(factor) for factor in word.factors)
    ]
    if len(words) != 1 or words[0][1].over or not is_gram(words[0][1].factors, name, unknown):
        return None
    return scalar_value(words[0][0], Point(place.block.sizes, place.scalars(), {})) * norm**2


def is_gram(factors: tuple[object, ...], name: str, unknown: Leaf) -> bool:
    """Whether a product is D' D A."""
    if len(factors) != 3 or not all(isinstance(factor, Leaf) for factor in factors):
        return False
    left, right, last = factors
    return left == right.T and left.name == right.name == name and left.transposed and last == unknown
