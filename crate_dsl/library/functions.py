"""Functions that may stand in a canonical form, with their numpy meaning; matrices are columns of tokens."""

from __future__ import annotations

import math
from collections.abc import Callable

import crate_dsl.library.arrays as np

SMALLEST_NORM = 1e-12  # that a vector is divided by, as torch's F.normalize has it


def softmax(matrix: np.ndarray) -> np.ndarray:
    """Column by column: every column becomes a distribution over the rows."""
    powers = np.exp(matrix - matrix.max(axis=-2, keepdims=True))
    return powers / powers.sum(axis=-2, keepdims=True)


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Every row divided by its norm."""
    return matrix / np.maximum(np.linalg.norm(matrix, axis=-1, keepdims=True), SMALLEST_NORM)


def _distribution(matrix: np.ndarray) -> np.ndarray:
    """That of the standard normal."""
    return 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(matrix / math.sqrt(2)))


def _density(matrix: np.ndarray) -> np.ndarray:
    return np.exp(-(matrix**2) / 2) / math.sqrt(2 * math.pi)


def gelu(matrix: np.ndarray) -> np.ndarray:
    """`x Phi(x)` (Hendrycks & Gimpel 2016)."""
    return matrix * _distribution(matrix)


def gelu_slope(matrix: np.ndarray) -> np.ndarray:
    """The derivative of `gelu`: `Phi(x) + x phi(x)`."""
    return _distribution(matrix) + matrix * _density(matrix)


def gelu_potential(matrix: np.ndarray) -> np.ndarray:
    """The antiderivative of `gelu`: `((x^2 - 1) Phi(x) + x phi(x)) / 2`."""
    return 0.5 * ((matrix**2 - 1) * _distribution(matrix) + matrix * _density(matrix))


def threshold(matrix: np.ndarray, tau: float | np.ndarray) -> np.ndarray:
    """`tau` where an entry is above it, else 0: the attention weights of Wang et al. 2025, arXiv 2506.03790."""
    return np.where(matrix > tau, tau, 0.0)


def onto_sphere(matrix: np.ndarray) -> np.ndarray:
    """Every column to Euclidean norm 1; a column of zeros, which has no nearest point, stays."""
    return matrix / np.maximum(np.linalg.norm(matrix, axis=-2, keepdims=True), SMALLEST_NORM)


def onto_simplex(matrix: np.ndarray) -> np.ndarray:
    """Every column to the nearest probability vector: `max(x - t, 0)` with the t that makes it add up to 1.

    t is found from the sorted entries (Duchi et al. 2008, "Efficient projections onto the l1-ball").
    """
    ordered = -np.sort(-matrix, axis=-2)
    rank = np.arange(1, matrix.shape[-2] + 1)[:, None]
    excess = (ordered.cumsum(axis=-2) - 1) / rank
    last = (ordered > excess).sum(axis=-2, keepdims=True) - 1
    return np.maximum(matrix - np.take_along_axis(excess, last, axis=-2), 0)


FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "softmax": softmax,
    "threshold": threshold,
    "onto_sphere": onto_sphere,
    "onto_simplex": onto_simplex,
    "exp": lambda a: np.exp(a),
    "log": lambda a: np.log(a),
    "log1p": lambda a: np.log1p(a),
    "root": lambda a: np.sqrt(a),
    "reciprocal": lambda a: 1 / a,
    "scaled": lambda a: a,
    "hadamard": lambda a, b: a * b,
    "unit_rows": unit_rows,
    "gelu": gelu,
    "gelu_slope": gelu_slope,
    "gelu_potential": gelu_potential,
    "sigmoid": lambda a: np.exp(-np.logaddexp(0, -a)),
    "softplus": lambda a: np.logaddexp(0, a),
}
