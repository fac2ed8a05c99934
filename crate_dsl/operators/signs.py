"""What can be proven of a matrix from its structure and the signs of scalars: that it is positive definite."""

from __future__ import annotations

import sympy

from crate_dsl.operators.build import terms_of, transposed
from crate_dsl.operators.graph import Builder, Operator


def is_definite(builder: Builder, number: int) -> bool:
    """Positive definite for all values of the weights and tokens: `I + beta W'W` with beta > 0, say."""
    operator = builder[number]
    match operator.kind:
        case "identity":
            return True
        case "inverse":
            return is_definite(builder, operator.inputs[0])
        case "diagonal":
            return is_positive(builder, operator.inputs[0])
        case "combine":
            return all(_adds(builder, c, n) for c, n in terms_of(builder, number)) and any(
                c.is_positive and is_definite(builder, n) for c, n in terms_of(builder, number)
            )
    return False


def _adds(builder: Builder, coefficient: sympy.Expr, number: int) -> bool:
    return bool(coefficient.is_nonnegative) and is_semidefinite(builder, number)


def is_positive(builder: Builder, number: int) -> bool:
    """Whether all entries of a value are greater than zero, whatever the weights and tokens."""
    operator = builder[number]
    match operator.kind:
        case "family_softmax" | "ones":
            return True
        case "quantity" | "transpose":
            return is_positive(builder, operator.inputs[0])
        case "function":
            if operator.attributes[0] == "reciprocal":
                return is_positive(builder, operator.inputs[0])
            return operator.attributes[0] in ("softmax", "exp", "sigmoid", "softplus")
        case "reduce":
            return operator.attributes[0] == "total" and is_positive(builder, operator.inputs[0])
        case "formula":
            return _is_positive_formula(builder, operator)
    return False


def _is_positive_formula(builder: Builder, operator: Operator) -> bool:
    value, names = operator.attributes
    parts = zip(names, operator.inputs, strict=True)
    known = {name: sympy.Symbol(name.name, positive=True) for name, n in parts if is_positive(builder, n)}
    return bool(value.xreplace(known).is_positive)


def is_semidefinite(builder: Builder, number: int) -> bool:
    """Positive semidefinite: `X' X`, `X' S X` with S such, sums over a family of such."""
    operator = builder[number]
    match operator.kind:
        case "product":
            return _is_congruence(builder, operator.inputs)
        case "family_sum":
            return is_semidefinite(builder, operator.inputs[0])
        case "combine":
            return all(_adds(builder, c, n) for c, n in terms_of(builder, number))
    return is_definite(builder, number)


def _is_congruence(builder: Builder, factors: tuple[int, ...]) -> bool:
    """Whether the leaves of a product read the same from both ends, transposed: `Z' U U' Z`, however bracketed."""
    leaves = [leaf for factor in factors for leaf in _leaves(builder, factor) if not _is_weight(builder, leaf)]
    if any(transposed(builder, a) != b for a, b in zip(leaves, reversed(leaves), strict=True)):
        return False
    return len(leaves) % 2 == 0 or is_semidefinite(builder, leaves[len(leaves) // 2])


def _is_weight(builder: Builder, number: int) -> bool:
    """A positive number before the product."""
    operator = builder[number]
    if operator.kind != "diagonal" or not builder.type(operator.inputs[0]).is_scalar:
        return False
    return is_positive(builder, operator.inputs[0])


def _leaves(builder: Builder, number: int) -> list[int]:
    """A value as a flat product, shared products and their transposes opened."""
    operator = builder[number]
    if operator.kind == "product":
        return [leaf for factor in operator.inputs for leaf in _leaves(builder, factor)]
    if operator.kind == "transpose" and builder[operator.inputs[0]].kind == "product":
        return [transposed(builder, leaf) for leaf in reversed(_leaves(builder, operator.inputs[0]))]
    return [number]
