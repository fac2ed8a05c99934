"""Functions that may stand in a canonical form, with their numpy meaning; matrices are columns of tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def softmax(matrix: np.ndarray) -> np.ndarray:
    """Column by column: every column becomes a distribution over the rows."""
    powers = np.exp(matrix - matrix.max(axis=-2, keepdims=True))
    return powers / powers.sum(axis=-2, keepdims=True)


def threshold(matrix: np.ndarray, tau: float | np.ndarray) -> np.ndarray:
    """`tau` where an entry is above it, else 0: the attention weights of Wang et al. 2025, arXiv 2506.03790."""
    return np.where(matrix > tau, tau, 0.0)


FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "softmax": softmax,
    "threshold": threshold,
    "exp": np.exp,
    "log": np.log,
    "reciprocal": lambda a: 1 / a,
    "scaled": lambda a: a,
    "hadamard": lambda a, b: a * b,
}
