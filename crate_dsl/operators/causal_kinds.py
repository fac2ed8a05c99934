"""The kinds of causal steps: column t is the value for tokens 1..t; part of the registry of `kinds.py`."""

from __future__ import annotations

import sympy

import crate_dsl.library.arrays as np
from crate_dsl.library.functions import SMALLEST_NORM
from crate_dsl.operators.graph import Operator, Type
from crate_dsl.operators.kinds import Numbers, Size, Values, entries, per_entry, register, until

CHUNK = 64  # tokens that the written algorithms take at a time


def _causal_product(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """`A_t (B_t' v_t)` for every t, A_t and B_t the columns 1..t of A and B."""
    a, b, v = x
    return a @ until(np.swapaxes(b, -1, -2) @ v, 0.0)


def _causal_product_flops(op: Operator, types: list[Type], size: Size) -> int:
    """Within chunks by their square matrices, between them by running sums of `B A'`."""
    tokens, a, b = size(op.type.cols), size(types[0].rows), size(types[1].rows)
    return tokens * (2 * min(CHUNK, tokens) * (a + b) + 4 * a * b)


def _cumulative(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """`A_t b_t` for every t: running sums of the columns of A, weighted by the entries of b."""
    return np.cumsum(x[0] * np.swapaxes(x[1], -1, -2), axis=-1)


def at_count(value: sympy.Expr, tokens: str, count: int) -> sympy.Expr:
    """A coefficient with the number of tokens so far in the place of that of all tokens."""
    return value.xreplace({symbol: sympy.Integer(count) for symbol in value.free_symbols if symbol.name == tokens})


def _counted(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """Column t times the coefficient at N = t."""
    values = (numbers(at_count(op.attributes[0], op.type.cols, t + 1)) for t in range(size(op.type.cols)))
    factors = [value.reshape((1,) * (4 - value.ndim) + value.shape) for value in values]
    return x[0] * np.concatenate(factors, axis=-1)


def _prefix_solve(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """`(c I + s A_t B_t')^-1 v_t` for every t; a fourth input, a row, multiplies s."""
    a, b, v, *rows = x
    columns = []
    for t in range(1, size(op.type.cols) + 1):
        shift, scale = (numbers(at_count(c, op.type.cols, t)) for c in op.attributes[0])
        scale = scale * rows[0][..., t - 1 : t] if rows else scale
        matrix = shift * np.eye(a.shape[-2]) + scale * a[..., :t] @ np.swapaxes(b[..., :t], -1, -2)
        columns.append(np.linalg.solve(matrix, v[..., t - 1 : t]))
    return np.concatenate(columns, axis=-1)


def _prefix_solve_flops(op: Operator, types: list[Type], size: Size) -> int:
    """Definite: a Cholesky factor per chunk of either side, and products; else a system for every token."""
    tokens, p = size(op.type.cols), size(op.type.rows)
    if not op.attributes[1]:
        return tokens * (2 * p**3 // 3 + 6 * p**2)
    chunk = min(CHUNK, tokens)
    factors = p**3 + chunk**3 // 3 + chunk**2 * p
    return -(-tokens // chunk) * (factors + 4 * chunk * p**2 + 2 * chunk**2 * p)


def _prefix_unit_rows(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """Every row divided by its norm up to the column."""
    return x[0] / np.maximum(np.sqrt(np.cumsum(x[0] ** 2, axis=-1)), SMALLEST_NORM)


register("prefix_unit_rows", _prefix_unit_rows, lambda op, types, size: 4 * entries(op.type, size))
register("causal_product", _causal_product, _causal_product_flops)
register("cumulative", _cumulative, lambda op, types, size: 2 * entries(op.type, size))
register("counted", _counted, per_entry)
register("prefix_solve", _prefix_solve, _prefix_solve_flops)
register("triangle", lambda op, x, numbers, size: until(x[0], float(op.attributes[0])), per_entry)
