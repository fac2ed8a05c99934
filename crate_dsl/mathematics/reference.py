"""The reference point of certificates: tokens drawn from a mixture of subspaces, weights as at a good start.

Approximations are only as good as the point at which they are measured, so the point is stated: the tokens are a
mixture of the family's subspaces plus noise of standard deviation 0.3, each scaled to norm sqrt(rows) as after a norm;
families are jointly orthonormal as far as they fit; other matrices are the identity plus noise of scale 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import crate_dsl.library.arrays as np
from crate_dsl.language.model import ONE, Block, Model, Parameter, axis_size
from crate_dsl.library.form import Form
from crate_dsl.library.rules import Fitted
from crate_dsl.mathematics.derivation import DerivedStep
from crate_dsl.mathematics.evaluate import Point, form_value, held_point, prefix_point, tree_value
from crate_dsl.mathematics.quantities import Quantity

NOISE, PERTURBATION = 0.3, 0.1
PREFIXES = 32  # tokens of a causal step, since it is measured at every prefix of them by itself


def reference_point(model: Model, block: Block, step: DerivedStep) -> Point:
    """Numbers for everything in a step, at the sizes of the network; a causal step has fewer tokens."""
    rng = np.random.default_rng(0)
    parameters = {p.name: p for p in (*block.parameters, *step.parameters)}
    matrices = {name: parameter_value(p, block.sizes, rng) for name, p in parameters.items()}
    matrices |= _tied(parameters, matrices)
    tokens = _tokens(model, block, parameters, matrices, rng)
    matrices |= {step.raw.name: tokens, step.read.name: tokens}
    matrices |= {q.name: given_value(q, block.sizes, model, rng) for q in step.quantities if q.is_given}
    point = Point(block.sizes, _scalars(model, block), matrices)
    if step.step.causal:
        point = prefix_point(step, point, min(PREFIXES, tokens.shape[1]))
    point = held_point(step, point)
    for fitted in step.fitted:  # at the point that they are fitted to, where freezing them changes nothing
        point = point.with_matrix(fitted.name, fitted_value(fitted, point))
    return point


def given_value(quantity: Quantity, sizes: Mapping[str, int], model: Model, rng: np.random.Generator) -> np.ndarray:
    """A given quantity: positive numbers that add up to 1 over the members of a family, as memberships do."""
    lengths = {**sizes, model.tokens.cols: model.tokens.count}
    rows, cols = (axis_size(axis, lengths) for axis in quantity.tree.shape)
    members = lengths[quantity.family] if quantity.family else 1
    shares = rng.dirichlet(np.ones(members), size=(rows, cols)).transpose(2, 0, 1)
    return shares if quantity.family else shares[0]


def fitted_value(fitted: Fitted, point: Point) -> np.ndarray:
    """A fitted matrix, or a family `members x rows x cols`, from the tokens of the point."""
    value = form_value if isinstance(fitted.value, Form) else tree_value
    shape = (point.size(fitted.shape.rows), point.size(fitted.shape.cols))
    if fitted.index is None:
        return np.reshape(value(fitted.value, point), shape)
    members = range(point.size(fitted.shape.family))
    return np.stack([np.reshape(value(fitted.value, point.at(fitted.index, k)), shape) for k in members])


def normalised(tokens: np.ndarray) -> np.ndarray:
    """LayerNorm of every column, without its affine part."""
    centred = tokens - tokens.mean(axis=0, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=0, keepdims=True) + 1e-5)


def parameter_value(parameter: Parameter, sizes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray:
    shape = parameter.shape
    rows, cols = (axis_size(axis, sizes) for axis in (shape.rows, shape.cols))
    if parameter.init and parameter.init.name == "constant":
        front = [sizes[shape.family]] if shape.family else []
        return np.full((*front, rows, cols), float(parameter.init.arguments[0]))
    if shape.family and shape.cols == ONE:
        return PERTURBATION * rng.standard_normal((sizes[shape.family], rows, cols))
    if shape.family:
        return orthonormal_family(sizes[shape.family], rows, cols, rng)
    if shape.cols == ONE:
        return PERTURBATION * rng.standard_normal((rows, cols))
    return np.eye(rows, cols) + PERTURBATION * rng.standard_normal((rows, cols)) / np.sqrt(cols)


def orthonormal_family(members: int, rows: int, cols: int, rng: np.random.Generator) -> np.ndarray:
    """`members x rows x cols`: columns orthonormal across the family where they fit, else within each member.

    Of a member wider than high the rows are orthonormal.
    """
    if members * cols <= rows:
        basis = np.linalg.qr(rng.standard_normal((rows, members * cols)))[0]
        return basis.reshape(rows, members, cols).transpose(1, 0, 2)
    if cols > rows:
        return np.stack([np.linalg.qr(rng.standard_normal((cols, rows)))[0].T for _ in range(members)])
    return np.stack([np.linalg.qr(rng.standard_normal((rows, max(cols, 1))))[0][:, :cols] for _ in range(members)])


def _tied(parameters: Mapping[str, Parameter], matrices: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A freed matrix is measured where it starts out: equal to the one it was freed from, its bias zero."""
    freed = {name: p for name, p in parameters.items() if p.origin and p.held != "random"}
    return {
        name: np.zeros_like(matrices[name]) if p.shape.cols == ONE else held_to(p, matrices[p.origin])
        for name, p in freed.items()
    }


def held_to(parameter: Parameter, origin: np.ndarray) -> np.ndarray:
    """A family `members x rows x cols` that is made of its origin, of the same shape; else the origin itself."""
    members, rows, cols = origin.shape if origin.ndim == 3 else (1, *origin.shape)
    whole = origin.reshape(members, rows, cols).transpose(1, 0, 2).reshape(rows, members * cols)
    if parameter.held == "transposed":
        return whole.T.reshape(rows, members, cols).transpose(1, 0, 2)
    if parameter.held == "identity":
        return np.eye(rows).reshape(rows, members, cols).transpose(1, 0, 2)
    return origin


def _tokens(
    model: Model,
    block: Block,
    parameters: Mapping[str, Parameter],
    matrices: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    rows, count = block.sizes[model.tokens.rows], block.sizes[model.tokens.cols]
    tokens = NOISE * rng.standard_normal((rows, count))
    families = [matrices[n] for n, p in parameters.items() if p.shape.family and p.shape.rows == model.tokens.rows]
    for token in range(count if families else 0):
        member = families[0][rng.integers(len(families[0]))]
        tokens[:, token] += member @ rng.standard_normal(member.shape[1])
    return tokens * np.sqrt(rows) / np.linalg.norm(tokens, axis=0, keepdims=True)


def _scalars(model: Model, block: Block) -> dict[str, float | np.ndarray]:
    scalars: dict[str, float | np.ndarray] = {name: float(value) for name, value in model.reals.items()}
    for learned in model.scalars + block.scalars:
        start = float(learned.start)
        scalars[learned.name] = np.full(block.sizes[learned.family], start) if learned.family else start
        if learned.base:
            scalars[learned.base] = start
    return scalars
