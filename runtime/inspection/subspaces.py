"""Geometry of a family of subspaces U (K x d x p): how orthonormal, how far apart, how well they span, who is nearest.

All of it is float64 numpy; angles are in degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.linalg import orth


@dataclass(frozen=True)
class Multiple:
    """How far a square matrix is from the identity, in Frobenius norms.

    `plain` is |G - I| / |I|. `scaled` is |G - c I| / |c I| with the multiple of the identity that is nearest to G,
    c = trace(G) / n = `scale`: of a positive semidefinite G it is the standard deviation of the eigenvalues over their
    mean. It is nan where the trace is 0.
    """

    scale: float
    plain: float
    scaled: float


def from_identity(gram: np.ndarray) -> Multiple:
    """The distances of a square matrix from the identity and from its nearest multiple."""
    size, scale, identity = len(gram), float(np.trace(gram)) / len(gram), np.eye(len(gram))
    plain = np.linalg.norm(gram - identity) / np.sqrt(size)
    scaled = np.linalg.norm(gram / scale - identity) / np.sqrt(size) if scale else np.nan
    return Multiple(scale, float(plain), float(scaled))


def orthonormality(bases: np.ndarray) -> list[Multiple]:
    """U[k]' U[k] beside the identity, for every member."""
    return [from_identity(basis.T @ basis) for basis in bases]


def frame(bases: np.ndarray) -> Multiple:
    """sum_k U[k] U[k]' beside the identity; of rank K p at most, so `scaled` is at least sqrt(d / (K p) - 1)."""
    side_by_side = np.concatenate(list(bases), axis=1)
    return from_identity(side_by_side @ side_by_side.T)


# ---- angles --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Angles:
    """Smallest, mean and largest principal angle of every two members, K x K each, in degrees; nan on the diagonal."""

    smallest: np.ndarray
    mean: np.ndarray
    largest: np.ndarray

    @property
    def pairs(self) -> list[tuple[int, int]]:
        return list(combinations(range(len(self.smallest)), 2))


def pairwise_angles(bases: np.ndarray) -> Angles:
    """The principal angles between the spans of all members (Björck and Golub 1973)."""
    frames, count = spans(bases), len(bases)
    found = np.full((3, count, count), np.nan)
    for i, j in combinations(range(count), 2):
        angles = principal_angles(frames[i], frames[j])
        if len(angles):
            found[:, i, j] = found[:, j, i] = angles.min(), angles.mean(), angles.max()
    return Angles(*found)


def spans(bases: np.ndarray) -> list[np.ndarray]:
    """Orthonormal bases of the spans, d x rank each: directions that vanish in rounding are left out."""
    return [orth(basis) for basis in bases]


def principal_angles(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The angles between the spans of orthonormal columns, in degrees, as many as the smaller span has dimensions.

    Small angles are taken from their sines, whose rounding does not grow (Knyazev and Argentati 2002); it is what
    `scipy.linalg.subspace_angles` computes, which would make orthonormal bases anew for every pair.
    """
    if left.shape[1] < right.shape[1]:
        left, right = right, left
    cosines = np.linalg.svd(left.T @ right, compute_uv=False).clip(-1, 1)
    angles = np.arccos(cosines)
    if (small := cosines**2 >= 0.5).any():
        sines = np.linalg.svd(right - left @ (left.T @ right), compute_uv=False)[::-1].clip(-1, 1)
        angles = np.where(small, np.arcsin(sines), angles)
    return np.degrees(angles)


def cosines_of_columns(bases: np.ndarray) -> np.ndarray:
    """|cosine| of every two columns of [U[0], ..., U[K - 1]], K p x K p; 0 for columns that are zero."""
    columns = np.concatenate(list(bases), axis=1)
    lengths = np.linalg.norm(columns, axis=0)
    unit = np.divide(columns, lengths, out=np.zeros_like(columns), where=lengths > 0)
    return np.abs(unit.T @ unit)


# ---- matrices that an approximation freed --------------------------------------------------------------------------


@dataclass(frozen=True)
class Freed:
    """How far a matrix is from the one whose place it took.

    `cosine` is that of the entries as one vector, `distance` |outer - inner| / |inner|, `scaled` the same with the best
    multiple of `inner` and over |outer|: sqrt(1 - cosine^2). nan where one of them is zero.
    """

    cosine: float
    distance: float
    scaled: float


def freed(outer: np.ndarray, inner: np.ndarray) -> Freed:
    """Two matrices or families of one shape."""
    long, short = np.linalg.norm(outer), np.linalg.norm(inner)
    if not long or not short:
        return Freed(np.nan, np.nan, np.nan)
    cosine = float((outer * inner).sum() / (long * short))
    rest = outer / long - cosine * inner / short
    return Freed(cosine, float(np.linalg.norm(outer - inner) / short), float(np.linalg.norm(rest)))


def mean_angle(left: np.ndarray, right: np.ndarray) -> float:
    """The mean principal angle between the spans of two d x p matrices, in degrees; nan where one has no span."""
    angles = principal_angles(orth(left), orth(right))
    return float(angles.mean()) if len(angles) else np.nan


# ---- tokens --------------------------------------------------------------------------------------------------------


def shares(tokens: np.ndarray, bases: np.ndarray) -> np.ndarray:
    """|U[k]' z|^2 / |z|^2 for tokens (..., N, d) as rows: (..., N, K); 0 for tokens that are zero."""
    inside = np.stack([np.square(tokens @ basis).sum(-1) for basis in bases], -1)
    whole = np.square(tokens).sum(-1)[..., None]
    return np.divide(inside, whole, out=np.zeros_like(inside), where=whole > 0)


def agreement(nearest: np.ndarray) -> float:
    """The share of places whose neighbour at the right is of the same kind, of maps (..., columns); nan without one."""
    return float((nearest[..., :-1] == nearest[..., 1:]).mean()) if nearest.shape[-1] > 1 else np.nan


def agreement_by_chance(nearest: np.ndarray, count: int) -> float:
    """What `agreement` would be if places did not matter: sum_k share_k^2, of kinds 0..count - 1 over everything."""
    return float(np.square(np.bincount(nearest.ravel(), minlength=count) / nearest.size).sum())
