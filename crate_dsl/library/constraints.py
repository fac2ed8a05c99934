"""Atoms that are constraints on every column: zero where it holds, infinite elsewhere; they enter by projection.

To add one, register it here with the function in `library/functions.py` that projects onto it.
"""

from __future__ import annotations

import crate_dsl.library.arrays as np
from crate_dsl.library.atoms import ATOMS, Atom, register, to_scalar

SLACK = 1e-9  # of a constraint with an equality, for rounding


def _sphere(matrix: np.ndarray) -> np.ndarray:
    off = np.abs(np.linalg.norm(matrix, axis=-2) - 1) > SLACK
    return np.where(off, np.inf, 0.0).sum(axis=-1)


def _simplex(matrix: np.ndarray) -> np.ndarray:
    off = (np.abs(matrix.sum(axis=-2) - 1) > SLACK) | (matrix < -SLACK).any(axis=-2)
    return np.where(off, np.inf, 0.0).sum(axis=-1)


register(
    Atom(
        "sphere",
        1,
        to_scalar,
        _sphere,
        "sphere(A): zero where every column has Euclidean norm 1, infinite elsewhere",
        constraint=True,
        projection="onto_sphere",
        latex=r"\iota_{{\mathbb{{S}}}}\left({0}\right)",
    )
)
register(
    Atom(
        "simplex",
        1,
        to_scalar,
        _simplex,
        "simplex(A): zero where every column is a probability vector, infinite elsewhere",
        constraint=True,
        projection="onto_simplex",
        latex=r"\iota_{{\Delta}}\left({0}\right)",
    )
)

COLUMNWISE = frozenset(name for name, atom in ATOMS.items() if atom.projection)
