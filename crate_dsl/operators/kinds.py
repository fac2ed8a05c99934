"""What every kind of operator means in numpy, and how many operations it takes.

A value is an array of four axes (batch or 1, family or 1, rows, cols), so that numpy broadcasts what a graph leaves
implicit. To add a kind, register it here and spell it in `pytorch/spelling.py`; tests walk the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy

import crate_dsl.library.arrays as np
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.functions import FUNCTIONS, softmax
from crate_dsl.mathematics.evaluate import piecewise_value
from crate_dsl.operators.graph import IDENTITY, Operator, Type

Values = list["np.ndarray"]
Numbers = Callable[[sympy.Expr], "np.ndarray"]  # a coefficient as an array that broadcasts against values
Size = Callable[[str], int]


@dataclass(frozen=True)
class Kind:
    """`value(operator, inputs, numbers, size)`, and `flops(operator, input types, size)` for one image and one head."""

    name: str
    value: Callable[[Operator, Values, Numbers, Size], np.ndarray]
    flops: Callable[[Operator, list[Type], Size], int]


KINDS: dict[str, Kind] = {}
SOFTMAX_FLOPS = 5  # maximum, difference, exponential, sum, quotient


def register(name: str, value: Callable[..., np.ndarray], flops: Callable[..., int]) -> None:
    KINDS[name] = Kind(name, value, flops)


def entries(kind: Type, size: Size) -> int:
    return size(kind.rows) * (1 if kind.diagonal else size(kind.cols))


def free(operator: Operator, types: list[Type], size: Size) -> int:
    return 0


def per_entry(operator: Operator, types: list[Type], size: Size) -> int:
    return entries(operator.type, size)


def _given(operator: Operator, inputs: Values, numbers: Numbers, size: Size) -> np.ndarray:
    raise KeyError(f"no value given for {operator.attributes[0]}")


# ---- leaves ----------------------------------------------------------------------------------------------------

register("input", _given, free)
register("parameter", _given, free)
register("identity", lambda op, x, numbers, size: np.eye(size(op.type.rows))[None, None], free)
register("ones", lambda op, x, numbers, size: np.ones((1, 1, size(op.type.rows), 1)), free)
register("zero", lambda op, x, numbers, size: np.zeros((1, 1, size(op.type.rows), size(op.type.cols))), free)
register("constant", lambda op, x, numbers, size: numbers(op.attributes[0]) * np.ones((1, 1)), free)
register("fill", lambda op, x, numbers, size: numbers(op.attributes[0]) * np.ones((size(op.type.rows), 1)), per_entry)


# ---- linear algebra --------------------------------------------------------------------------------------------


def _product(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    result = x[0]
    for factor in x[1:]:
        result = result @ factor
    return result


def _product_flops(op: Operator, types: list[Type], size: Size) -> int:
    """From the left to the right; `operators/cost.py` orders longer products before it counts them."""
    if any(t.diagonal for t in types):
        return per_entry(op, types, size) * (len(types) - 1)
    return sum(2 * size(types[0].rows) * size(t.rows) * size(t.cols) for t in types[1:])


def _combine(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    return sum(numbers(coefficient) * value for coefficient, value in zip(op.attributes[0], x, strict=True))


def _combine_flops(op: Operator, types: list[Type], size: Size) -> int:
    scaled = sum(coefficient not in (1, -1) for coefficient in op.attributes[0])
    return entries(op.type, size) * (len(types) - 1 + scaled)


def _cube(op: Operator, types: list[Type], size: Size) -> int:
    return size(types[0].rows) ** 3


def _solve_flops(op: Operator, types: list[Type], size: Size) -> int:
    """Cholesky takes n^3 / 3 operations, LU twice as many; every right-hand side 2 n^2."""
    n = size(types[0].rows)
    return n**3 * (1 if op.attributes[0] else 2) // 3 + 2 * n * entries(types[1], size)


def _logdet_flops(op: Operator, types: list[Type], size: Size) -> int:
    return size(types[0].rows) ** 3 * (1 if op.attributes[0] else 2) // 3


register("transpose", lambda op, x, numbers, size: np.swapaxes(x[0], -1, -2), free)
register("product", _product, _product_flops)
register("first", lambda op, x, numbers, size: x[0][..., :1], free)
register("combine", _combine, _combine_flops)
register("family_sum", lambda op, x, numbers, size: x[0].sum(axis=1, keepdims=True), per_entry)
register("inverse", lambda op, x, numbers, size: np.linalg.inv(x[0]), lambda op, t, size: 2 * _cube(op, t, size))
register("solve", lambda op, x, numbers, size: np.linalg.solve(x[0], x[1]), _solve_flops)


def _log_determinant(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    return ATOMS["logdet"].value(x[0])[..., None, None]


register("logdet", _log_determinant, _logdet_flops)


# ---- diagonals, quantities and numbers computed from values --------------------------------------------------------


def _formula(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """An expression of 1 x 1 values, which stand for its symbols, and of scalars."""
    value, names = op.attributes
    others = sorted(value.free_symbols - set(names), key=str)
    evaluate = sympy.lambdify([*names, *others], value, "numpy")
    return np.asarray(evaluate(*x, *map(numbers, others)), dtype=float)


def _family_softmax(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    powers = np.exp(x[0] - x[0].max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _family_logsumexp(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    return np.logaddexp.reduce(x[0], axis=1, keepdims=True)


def _broadcast(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """`Diag(v) X`, or `X Diag(v)`; v may be a single number."""
    return x[0] * x[1] if op.attributes[0] == "rows" else np.swapaxes(x[0], -1, -2) * x[1]


def _of_argument(op: Operator, types: list[Type], size: Size) -> int:
    return entries(types[0], size)


LINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # how every column, or every row, becomes a number
    "column_sums": lambda a: np.sum(a, axis=-2, keepdims=True),
    "row_sums": lambda a: np.sum(a, axis=-1, keepdims=True),
    "column_norms": lambda a: np.linalg.norm(a, axis=-2, keepdims=True),
    "column_logsumexp": lambda a: np.logaddexp.reduce(a, axis=-2, keepdims=True),
}


def _lines(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    return LINES[op.attributes[0]](x[0])


register("diagonal", lambda op, x, numbers, size: x[0] * np.eye(size(op.type.rows)), free)
register("broadcast", _broadcast, per_entry)
register("lines", _lines, _of_argument)
register("formula", _formula, lambda op, types, size: int(op.attributes[0].count_ops()))
register("quantity", lambda op, x, numbers, size: x[0], free)
register("family_softmax", _family_softmax, lambda op, types, size: SOFTMAX_FLOPS * entries(op.type, size))
register("family_logsumexp", _family_logsumexp, lambda op, types, size: SOFTMAX_FLOPS * entries(types[0], size))


# ---- entry by entry --------------------------------------------------------------------------------------------


def _function(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    name, parameters = op.attributes
    return FUNCTIONS[name](*x, *(numbers(p) for p in parameters))


def _function_flops(op: Operator, types: list[Type], size: Size) -> int:
    return entries(op.type, size) * (SOFTMAX_FLOPS if op.attributes[0] == "softmax" else 1)


register("function", _function, _function_flops)
register("prox", lambda op, x, numbers, size: piecewise_value(op.attributes[0], x[0], numbers), per_entry)


# ---- reductions of an energy -----------------------------------------------------------------------------------


def _reduce(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    atom, parameters = op.attributes
    return np.asarray(ATOMS[atom].value(x[0], *(numbers(p) for p in parameters)))[..., None, None]


register("reduce", _reduce, lambda op, types, size: entries(types[0], size))


# ---- what passes introduce -------------------------------------------------------------------------------------


def _attention(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """`V softmax(s K' Q)`, the columns being queries (Vaswani et al. 2017, with tokens as columns).

    Where it is causal, column t attends to the keys 1..t.
    """
    value, key, query = x
    scores = numbers(op.attributes[0]) * np.swapaxes(key, -1, -2) @ query
    return value @ softmax(until(scores, -np.inf) if is_causal(op) else scores)


def is_causal(op: Operator) -> bool:
    """Whether an attention is."""
    return op.attributes[1:] == (True,)


def until(scores: np.ndarray, otherwise: float) -> np.ndarray:
    """The rows up to the column, another number below."""
    return np.where(np.tri(scores.shape[-2], scores.shape[-1], dtype=bool).T, scores, otherwise)


def _attention_flops(op: Operator, types: list[Type], size: Size) -> int:
    value, key, query = types
    scores = size(key.cols) * size(query.cols) // (2 if is_causal(op) else 1)
    return 2 * scores * (size(key.rows) + size(value.rows)) + SOFTMAX_FLOPS * scores


def _merged(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """`sum_k A_k X_k`, and a bias for every column where there is a third input."""
    return (x[0] @ x[1]).sum(axis=1, keepdims=True) + (x[2] if len(x) > 2 else 0.0)


def _merged_flops(op: Operator, types: list[Type], size: Size) -> int:
    inner = 0 if op.attributes == (IDENTITY,) else size(types[0].family) * size(types[0].cols)
    return (2 * inner + (len(types) > 2)) * entries(op.type, size)


def _affine(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    return x[0] @ x[1] + x[2]


def _affine_flops(op: Operator, types: list[Type], size: Size) -> int:
    return (2 * size(types[0].cols) + 1) * entries(op.type, size)


def _gram_solve(op: Operator, x: Values, numbers: Numbers, size: Size) -> np.ndarray:
    """`(c I + s W W')^-1 W`."""
    shift, scale = map(numbers, op.attributes[0])
    return np.linalg.solve(shift * np.eye(x[0].shape[-2]) + scale * x[0] @ np.swapaxes(x[0], -1, -2), x[0])


def _gram_solve_flops(op: Operator, types: list[Type], size: Size) -> int:
    """Two products with the tokens; of the small side a Cholesky factor, its inverse, and that times itself."""
    p = size(op.type.rows)
    return 4 * p * entries(op.type, size) + p**3 // 3 + p**3 // 3 + 2 * p**3


register("attention", _attention, _attention_flops)
register("gram_solve", _gram_solve, _gram_solve_flops)
register("merged", _merged, _merged_flops)
register("affine", _affine, _affine_flops)
register("column", lambda op, x, numbers, size: np.repeat(x[0], size(op.type.cols), axis=-1), free)
