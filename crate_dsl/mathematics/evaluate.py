"""The numpy meaning of trees, forms and proximal maps, in float64: what certificates are checked against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce

import sympy

import crate_dsl.library.arrays as np
from crate_dsl.errors import CompilerBug
from crate_dsl.language.model import axis_size
from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.form import Diagonal, Factor, Form, Function, Inverse, Leaf, Word, leaves
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.library.tree import Apply, Matrix, Scalar, SoftmaxOver, SumOver, Tree, tree_leaves
from crate_dsl.mathematics.derivation import Assignment, DerivedStep, Prox
from crate_dsl.mathematics.quantities import Quantity


@dataclass(frozen=True)
class Point:
    """Numbers for the names: sizes, scalars (arrays for members of a family), matrices (families: K x rows x cols)."""

    sizes: Mapping[str, int]
    scalars: Mapping[str, float | np.ndarray]
    matrices: Mapping[str, np.ndarray]
    members: Mapping[str, int] = field(default_factory=dict)  # the current member of each index

    def with_matrix(self, name: str, value: np.ndarray) -> Point:
        return replace(self, matrices={**self.matrices, name: value})

    def at(self, index: str, member: int) -> Point:
        return replace(self, members={**self.members, index: member})

    def size(self, axis: str) -> int:
        return axis_size(axis, self.sizes)


def scalar_value(value: sympy.Expr, point: Point) -> float:
    """The number of a coefficient."""
    numbers = {}
    for symbol in value.free_symbols:
        name, _, index = symbol.name.partition("[")
        if index:
            numbers[symbol] = point.scalars[name][point.members[index[:-1]]]
        else:
            numbers[symbol] = point.scalars[name] if name in point.scalars else point.sizes[name]
    return float(value.xreplace({s: sympy.Float(float(v), 30) for s, v in numbers.items()}))


def leaf_value(leaf: Leaf, point: Point) -> np.ndarray:
    if leaf.name == "ones":
        value = np.ones((point.size(leaf.rows), 1))
    else:
        value = point.matrices[leaf.name]
        value = value[point.members[leaf.index]] if leaf.index else value
    return np.swapaxes(value, -1, -2) if leaf.transposed else value


def form_value(form: Form, point: Point) -> np.ndarray:
    """The matrix of a form, rows x cols."""
    total = np.zeros((point.size(form.rows), point.size(form.cols)))
    for word in form.words:
        total = total + _word_value(word, word.over, point, form)
    return total


def _word_value(word: Word, over: tuple[tuple[str, str], ...], point: Point, form: Form) -> np.ndarray:
    if over:
        (index, family), rest = over[0], over[1:]
        return sum(_word_value(word, rest, point.at(index, k), form) for k in range(point.size(family)))
    values = [_factor_value(factor, point) for factor in word.factors] or [np.eye(point.size(form.rows))]
    return scalar_value(word.coefficient, point) * _multiplied(values)


def _multiplied(values: list[np.ndarray]) -> np.ndarray:
    """The product in its cheapest order; from the left where a factor is a stack of matrices."""
    if len(values) > 2 and all(value.ndim == 2 for value in values):
        return np.linalg.multi_dot(values)
    return reduce(np.matmul, values)


def _factor_value(factor: Factor, point: Point) -> np.ndarray:
    match factor:
        case Leaf():
            return leaf_value(factor, point)
        case Inverse():
            return np.linalg.inv(form_value(factor.of, point))
        case Diagonal():
            return np.diagflat(form_value(factor.of, point))
        case Function():
            matrices = [form_value(argument, point) for argument in factor.arguments]
            value = FUNCTIONS[factor.name](*matrices, *(scalar_value(p, point) for p in factor.parameters))
            return np.swapaxes(value, -1, -2) if factor.transposed else value


def tree_value(tree: Tree, point: Point) -> np.ndarray:
    """The value of an energy or of a matrix inside it, without passing through forms."""
    match tree:
        case Matrix():
            return leaf_value(tree.leaf, point)
        case Scalar():
            return np.array(scalar_value(tree.value, point))
        case SumOver():
            return sum(tree_value(tree.body, point.at(tree.index, k)) for k in range(point.size(tree.family)))
        case SoftmaxOver():
            return _softmax_over(tree, point)
        case Apply(atom="I"):
            return np.eye(point.size(tree.shape[0]))
        case Apply(atom="scale"):
            return tree_value(tree.arguments[0], point) * tree_value(tree.arguments[1], point)
        case Apply():
            return ATOMS[tree.atom].value(*(tree_value(argument, point) for argument in tree.arguments))
    raise CompilerBug(f"no numpy meaning for {tree}")


def _softmax_over(tree: SoftmaxOver, point: Point) -> np.ndarray:
    members = [tree_value(tree.body, point.at(tree.index, k)) for k in range(point.size(tree.family))]
    powers = np.exp(np.stack(members) - np.max(members, axis=0))
    return powers[point.members[tree.index]] / powers.sum(axis=0)


def with_quantities(quantities: tuple[Quantity, ...], point: Point) -> Point:
    """The point with the values of all quantities, from the tokens that it holds."""
    for quantity in quantities:
        if quantity.family is None or quantity.index is None:
            value = tree_value(quantity.tree, point)
        else:
            members = (point.at(quantity.index, k) for k in range(point.size(quantity.family)))
            value = np.stack([tree_value(quantity.tree, member) for member in members])
        if quantity.is_scalar:
            scalars = np.reshape(value, value.shape[:1] if quantity.family else ())
            point = replace(point, scalars={**point.scalars, quantity.name: scalars})
        else:
            point = point.with_matrix(quantity.name, value)
    return point


def prox_value(prox: Prox, v: np.ndarray, point: Point) -> np.ndarray:
    """The proximal map, entry by entry."""
    return piecewise_value(prox, v, lambda value: scalar_value(value, point))


def piecewise_value(prox: Prox, v: np.ndarray, number: Callable[[sympy.Expr], float | np.ndarray]) -> np.ndarray:
    """The piecewise linear map of every entry; `number` gives the values of its slopes, intercepts and ends."""
    result = np.zeros_like(v)
    for piece in prox.pieces:
        lower, upper = (float(end) if end.is_infinite else number(end) for end in (piece.lower, piece.upper))
        inside = (v >= lower) & (v <= upper)
        result = np.where(inside, number(piece.slope) * v + number(piece.intercept), result)
    return result


def execute(assignments: tuple[Assignment, ...], point: Point) -> Point:
    """The point after all assignments."""
    for assignment in assignments:
        value = form_value(assignment.value, point)
        if assignment.prox:
            value = prox_value(assignment.prox, value, point)
        point = point.with_matrix(assignment.target.name, value)
    return point


# ---- prefix by prefix ----------------------------------------------------------------------------------------------


def prefix_point(step: DerivedStep, point: Point, count: int) -> Point:
    """The point with the first tokens only: what has their axis is cut, held quantities too; numbers are made anew."""
    axis, matrices = step.raw.cols, dict(point.matrices)
    for leaf in (leaf for leaf in _leaves(step) if leaf.name in point.matrices):
        for place in (place for place, name in ((-2, leaf.rows), (-1, leaf.cols)) if name == axis):
            if matrices[leaf.name].shape[place] > count:
                matrices[leaf.name] = np.take(matrices[leaf.name], range(count), axis=place)
    cut = replace(point, sizes={**point.sizes, axis: count}, matrices=matrices)
    known = {*point.matrices, *point.scalars}
    made = tuple(q for q in step.quantities if q.name in known and axis not in q.tree.shape)
    return with_quantities(made, cut)


def _leaves(step: DerivedStep) -> Iterator[Leaf]:
    """Every matrix that a step names."""
    yield from (step.raw, step.read, *(quantity.leaf for quantity in step.quantities))
    for tree in (step.objective.energy, *(quantity.tree for quantity in step.quantities)):
        yield from tree_leaves(tree)
    for assignment in step.assignments:
        yield from leaves(assignment.value)


def held_point(step: DerivedStep, point: Point) -> Point:
    """The point with the step's quantities; in a causal step one holds for token t what tokens 1..t make of it."""
    if not step.step.causal:
        return with_quantities(step.quantities, point)
    for quantity in step.quantities:
        places = [place for place, name in enumerate(quantity.tree.shape, -2) if name == step.raw.cols]
        counts = range(1, point.size(step.raw.cols) + 1) if places else ()
        parts = [with_quantities((quantity,), prefix_point(step, point, t)).matrices[quantity.name] for t in counts]
        point = with_quantities((quantity,), point)
        if places:
            lines = [np.take(part, [-1], axis=places[0]) for part in parts]
            point = point.with_matrix(quantity.name, np.concatenate(lines, axis=places[0]))
    return point


def prefix_by_prefix(step: DerivedStep, value: Callable[[Point], np.ndarray], point: Point) -> np.ndarray:
    """A value with tokens as columns; in a causal step, column t is its last column for tokens 1..t."""
    if not step.step.causal:
        return value(point)
    points = (prefix_point(step, point, count) for count in range(1, point.size(step.raw.cols) + 1))
    return np.concatenate([value(at)[:, -1:] for at in points], axis=1)


def step_result(step: DerivedStep, point: Point) -> np.ndarray:
    """The tokens after a step."""
    return prefix_by_prefix(step, lambda at: execute(step.assignments, at).matrices[step.result.name], point)
