"""The reference point of certificates: tokens drawn from a mixture of subspaces, weights as at a good start.

Approximations are only as good as the point at which they are measured, so the point is stated: the tokens are a
mixture of the family's subspaces plus noise of standard deviation 0.3, each scaled to norm sqrt(rows) as after a norm;
families are jointly orthonormal as far as they fit; other matrices are the identity plus noise of scale 0.1.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crate_dsl.language.model import ONE, Block, Model, Parameter
from crate_dsl.mathematics.derivation import DerivedStep
from crate_dsl.mathematics.evaluate import Point, with_quantities

NOISE, PERTURBATION = 0.3, 0.1


def reference_point(model: Model, block: Block, step: DerivedStep, seed: int = 0) -> Point:
    """Numbers for everything in a step, at the sizes of the network."""
    rng = np.random.default_rng(seed)
    parameters = {p.name: p for p in (*block.parameters, *step.parameters)}
    matrices = {name: parameter_value(p, block.sizes, rng) for name, p in parameters.items()}
    matrices |= _tied(parameters, matrices)
    tokens = _tokens(model, block, parameters, matrices, rng)
    matrices |= {step.raw.name: tokens, step.read.name: tokens}
    return with_quantities(step.quantities, Point(block.sizes, _scalars(model, block), matrices))


def normalised(tokens: np.ndarray) -> np.ndarray:
    """LayerNorm of every column, without its affine part."""
    centred = tokens - tokens.mean(axis=0, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=0, keepdims=True) + 1e-5)


def parameter_value(parameter: Parameter, sizes: Mapping[str, int], rng: np.random.Generator) -> np.ndarray:
    shape = parameter.shape
    rows, cols = (int(a) if a.isdigit() else sizes[a] for a in (shape.rows, shape.cols))
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
    """`members x rows x cols`: columns orthonormal across the family where they fit, else within each member."""
    if members * cols <= rows:
        basis = np.linalg.qr(rng.standard_normal((rows, members * cols)))[0]
        return basis.reshape(rows, members, cols).transpose(1, 0, 2)
    return np.stack([np.linalg.qr(rng.standard_normal((rows, max(cols, 1))))[0][:, :cols] for _ in range(members)])


def _tied(parameters: Mapping[str, Parameter], matrices: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A freed matrix is measured where it starts out: equal to the one it was freed from, its bias zero."""
    freed = {name: p for name, p in parameters.items() if p.origin}
    return {
        name: np.zeros_like(matrices[name]) if p.shape.cols == ONE else matrices[p.origin] for name, p in freed.items()
    }


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
    return scalars
