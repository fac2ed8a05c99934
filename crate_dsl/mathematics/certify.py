"""The certificate of a derivation: every exact rule verified, every approximation measured, in float64 numpy.

Gradients are compared with finite differences of the stated energy (Richardson's extrapolation of central differences
along random directions), proximal maps with a brute-force search of their scalar problem, solutions with the gradient
at them. Approximations are measured at the reference point of `reference.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import crate_dsl.library.arrays as np
from crate_dsl.errors import CrateError, fail
from crate_dsl.library.form import Form, Inverse, Leaf, Word
from crate_dsl.library.tree import Scalar, Tree
from crate_dsl.mathematics.derivation import (
    Assignment,
    Derivation,
    DerivationStep,
    DerivedBlock,
    DerivedStep,
)
from crate_dsl.mathematics.evaluate import (
    Point,
    execute,
    form_value,
    prefix_by_prefix,
    prefix_point,
    prox_value,
    scalar_value,
    step_result,
    tree_value,
    with_quantities,
)
from crate_dsl.mathematics.proximal_step import split
from crate_dsl.mathematics.reference import normalised, reference_point

TOLERANCE = 1e-6  # of finite differences; what is measured is printed beside it
DIRECTIONS = 3
ROUNDING = 1e-11  # of a difference of energies over the step that it is taken at, relative to the energy
POWER_ITERATIONS = 30
SEARCHED = 100  # points of a constraint, at every distance


@dataclass(frozen=True)
class Finding:
    """One line of a certificate. `error` is relative; `passed` is None for a measurement."""

    place: str  # "encoder.compress"
    claim: str
    error: float | None
    passed: bool | None
    detail: str = ""

    def __str__(self) -> str:
        verdict = {True: "verified", False: "FAILED", None: "measured"}[self.passed]
        error = "" if self.error is None else f"{self.error:.1e}"
        return f"{self.place:28} {verdict:9} {error:>8}  {self.claim}" + (f"; {self.detail}" if self.detail else "")


def certify(derivation: Derivation) -> tuple[Finding, ...]:
    """All findings about the blocks of a network, in their order.

    Raises:
        CrateError: where a step has no value at the reference point.
    """
    findings: list[Finding] = []
    for block in derivation.blocks:
        for step in block.steps:
            try:
                point = reference_point(derivation.model, block.block, step)
                findings += _step_findings(f"{block.block.role}.{step.step.label}", step, point)
            except np.linalg.LinAlgError:
                raise singular(step) from None
    return (*findings, *_round_trips(derivation))


def singular(step: DerivedStep) -> CrateError:
    """The error where numpy finds no inverse of a matrix of a step."""
    hint = "a matrix that it inverts is singular there: is a number in it negative, too large or too small?"
    return fail("this step cannot be computed at the points where it is checked", step.step.span, hint)


def _step_findings(place: str, step: DerivedStep, point: Point) -> Iterator[Finding]:
    for line in step.record:
        match line.rule:
            case "gradient":
                yield _gradient_finding(place, step, line, point)
                if step.step.causal:
                    yield _causal_finding(place, step, line, point)
            case "solve":
                yield _solution_finding(place, step, line, point)
            case "prox":
                yield _prox_finding(place, step, line, point)
            case "projection":
                yield _projection_finding(place, step, line, point)
    if step.step.unknown and any(line.rule == "prox" for line in step.record):
        yield _curvature_finding(place, step, point)
    yield from _approximation_findings(place, step, point)
    if not isinstance(step.objective.energy, Scalar):  # constraints alone have no value to follow
        yield _energy_finding(place, step, point)


# ---- exact rules ---------------------------------------------------------------------------------------------------


def _gradient_finding(place: str, step: DerivedStep, line: DerivationStep, point: Point) -> Finding:
    """The derived gradient against finite differences of the part of the energy that it belongs to."""
    variable = step.objective.variable
    point = _with_start(step, variable, point)
    energy = _smooth_part(step, line.before, variable)
    error = _difference(energy, variable, form_value(line.after, point), point)
    claim = f"gradient in {variable.name} against finite differences"
    undefined = "" if np.isfinite(energy(point)) else "the energy has no finite value at the reference point"
    return Finding(place, claim, error, bool(error < TOLERANCE), undefined)


def _causal_finding(place: str, step: DerivedStep, line: DerivationStep, point: Point) -> Finding:
    """Column t of the operator against finite differences in z_t of the energy of tokens 1..t, for some t."""
    variable, count = step.objective.variable, point.size(step.raw.cols)
    columns, errors = operator_columns(step, line.after, point), []
    for t in sorted({1, 2, count // 2, count} & set(range(1, count + 1))):
        at = prefix_point(step, point, t)
        gradient = np.zeros_like(at.matrices[variable.name])
        gradient[:, -1] = columns[:, t - 1]
        errors.append(_difference(_smooth_part(step, line.before, variable), variable, gradient, at, last=True))
    claim = f"column t against finite differences in token t of the energy of tokens 1..t, t up to {count}"
    return Finding(place, claim, max(errors), bool(max(errors) < TOLERANCE))


def _with_start(step: DerivedStep, variable: Leaf, point: Point) -> Point:
    """The point with a value for the variable: a perturbation of the tokens where it is a code."""
    if variable.name in point.matrices:
        return point
    rng = np.random.default_rng(1)
    shape = (point.size(variable.rows), point.size(variable.cols))
    return point.with_matrix(variable.name, rng.standard_normal(shape))


def _smooth_part(step: DerivedStep, energy: Tree, variable: Leaf) -> Callable[[Point], float]:
    """What the gradient belongs to: the energy, in a proximal step without the penalties of its entries."""
    proximal = any(line.rule == "prox" for line in step.record)
    if not proximal and step.step.unknown is None:
        return lambda point: float(tree_value(energy, point))
    # A synthesis holds the code, whose penalties may be infinite and have no gradient in what is sought.
    smooth, penalties = split(energy, variable)
    summands = smooth if proximal else [*smooth, *penalties]
    return lambda point: sum(scalar_value(t.weight, point) * float(tree_value(t.tree, point)) for t in summands)


def _difference(
    energy: Callable[[Point], float], variable: Leaf, gradient: np.ndarray, point: Point, last: bool = False
) -> float:
    """The largest relative error of directional derivatives along a few random directions, or in the last column.

    Relative to the gradient, or where that is smaller to what the rounding of the energy leaves of a difference.
    """
    rng, errors = np.random.default_rng(2), []
    value = point.matrices[variable.name]
    rounding = ROUNDING * max(1.0, abs(energy(point))) / TOLERANCE
    for _ in range(DIRECTIONS):
        direction = rng.standard_normal(value.shape)
        direction[:, : -1 if last else 0] = 0
        direction *= np.linalg.norm(value) / np.linalg.norm(direction)

        def along(t: float, direction: np.ndarray = direction) -> float:
            return energy(point.with_matrix(variable.name, value + t * direction))

        slopes = [(along(h) - along(-h)) / (2 * h) for h in (1e-3, 5e-4)]
        numeric = (4 * slopes[1] - slopes[0]) / 3  # Richardson: the error is of fourth order in h
        scale = max(np.linalg.norm(gradient) * np.linalg.norm(direction), rounding)
        errors.append(abs(numeric - float((gradient * direction).sum())) / scale)
    return float(np.max(errors))  # one that is not a number included, which `max` may pass over


def _solution_finding(place: str, step: DerivedStep, line: DerivationStep, point: Point) -> Finding:
    """The gradient vanishes at the solution, relative to its size at zero."""
    assert isinstance(line.after, Assignment)
    unknown = line.after.target
    solution = form_value(line.after.value, point)
    at = form_value(line.before, point.with_matrix(unknown.name, solution))
    zero = form_value(line.before, point.with_matrix(unknown.name, np.zeros_like(solution)))
    error = float(np.linalg.norm(at) / np.linalg.norm(zero))
    return Finding(place, f"the gradient in {unknown.name} vanishes at the solution", error, bool(error < TOLERANCE))


def _prox_finding(place: str, step: DerivedStep, line: DerivationStep, point: Point) -> Finding:
    """No point of a fine grid has a smaller `1/2 (z - v)^2 + eta g(z)` than the proximal map of v."""
    penalties = split(step.record[0].after, step.objective.variable)[1]
    eta, variable = scalar_value(step.size, point), step.objective.variable.name
    grid = np.linspace(-6, 6, 6001).reshape(-1, 1, 1)  # holds 0 and the usual bounds

    def objective(z: np.ndarray, v: float) -> np.ndarray:
        at = point.with_matrix(variable, z)
        g = sum(scalar_value(t.weight, point) * tree_value(t.tree, at) for t in penalties)
        return ((z - v) ** 2).sum(axis=(-2, -1)) / 2 + eta * g

    inputs = np.linspace(-3, 3, 41)
    images = prox_value(line.after.prox, inputs, point)
    gaps = [objective(np.array([[[z]]]), v)[0] - objective(grid, v).min() for v, z in zip(inputs, images, strict=True)]
    worst = max(0.0, float(np.max(gaps)))
    return Finding(place, "proximal map against a search of its scalar problem", worst, bool(worst < TOLERANCE))


def _projection_finding(place: str, step: DerivedStep, line: DerivationStep, point: Point) -> Finding:
    """The projected tokens satisfy the constraint, and no point of it that a search finds is nearer to the tokens."""
    name, rng = step.objective.variable.name, np.random.default_rng(4)
    constraint, tokens = step.record[0].after, point.matrices[name]
    image = form_value(line.after, point)
    if not np.isfinite(tree_value(constraint, point.with_matrix(name, image))):
        return Finding(place, "projection onto its constraint", float("inf"), False)
    best, worst = np.linalg.norm(tokens - image, axis=0), 0.0
    for scale in np.repeat([1e-3, 1e-1, 1, 10], SEARCHED):
        other = form_value(line.after, point.with_matrix(name, image + scale * rng.standard_normal(image.shape)))
        worst = max(worst, float((best - np.linalg.norm(tokens - other, axis=0)).max()))
    return Finding(place, "projection against a search of its constraint", worst, bool(worst < TOLERANCE))


def _curvature_finding(place: str, step: DerivedStep, point: Point) -> Finding:
    """The step size times the largest curvature of the smooth part, by power iteration: below 2 the step descends."""
    slope = next(line.after for line in step.record if line.rule == "gradient")
    variable = step.objective.variable
    rng = np.random.default_rng(3)
    base = rng.standard_normal((point.size(variable.rows), point.size(variable.cols)))
    at_base = form_value(slope, point.with_matrix(variable.name, base))
    direction, curvature = rng.standard_normal(base.shape), 0.0
    for _ in range(POWER_ITERATIONS):
        direction /= np.linalg.norm(direction)
        direction = form_value(slope, point.with_matrix(variable.name, base + direction)) - at_base
        curvature = float(np.linalg.norm(direction))
    product = scalar_value(step.size, point) * curvature
    bound = "below 2, where proximal gradient descends" if product < 2 else "NOT below 2: the step may not descend"
    if step.step.accelerate:
        bound = "at most 1, where FISTA converges" if product <= 1 else "NOT at most 1: FISTA may not converge"
    return Finding(place, "step size times curvature", None, None, f"{product:.3g}, {bound}")


# ---- approximations and energies -----------------------------------------------------------------------------------


def _approximation_findings(place: str, step: DerivedStep, point: Point) -> Iterator[Finding]:
    """Every site's rewriting: its displacement of the tokens beside the exact step's, and where the energy goes."""
    lines = [line for line in step.record if "~" in line.rule]
    if not lines:
        return
    start = point.matrices[step.raw.name]
    exact = operator_columns(step, lines[0].before, point) - start
    yield Finding(place, "exact step", None, None, _movement(step, start, start + exact, point))
    for line in lines:
        now = operator_columns(step, line.after, point) - start
        error = float(np.linalg.norm(now - exact) / np.linalg.norm(exact))
        detail = f"cosine to the exact step {cosine(now, exact):+.3f}; {_movement(step, start, start + now, point)}"
        radius = spectral_radius(line.before, point) if line.rule == "inverse ~ neumann" else None
        if radius is not None:
            state = "converges" if radius < 1 else "the Neumann series diverges here"
            detail += f"; spectral radius {radius:.3g} ({state})"
        yield Finding(place, line.rule, error, None, detail)


def operator_columns(step: DerivedStep, form: Form, point: Point) -> np.ndarray:
    """What a form of a step's record makes of the tokens of the point; in a causal step prefix by prefix."""
    return prefix_by_prefix(step, lambda at: form_value(form, at), point)


def _movement(step: DerivedStep, start: np.ndarray, end: np.ndarray, point: Point) -> str:
    """Where the energy goes, of tokens as the step reads them."""
    read = normalised if step.objective.renorm else np.asarray
    point = _held(step, read(start), point)
    before, after = (_energy_at(step, read(tokens), point) for tokens in (start, end))
    return f"{step.step.energy.name} {before:.4g} -> {after:.4g}, {_direction(step, before, after)}"


def _direction(step: DerivedStep, before: float, after: float) -> str:
    """Whether the energy moves as the step intends: up where it undoes compression, else down."""
    if step.step.ascends:
        return "ascends" if after > before else "does not ascend"
    return "descends" if after < before else "does not descend"


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of two matrices as vectors; 0 where one of them vanishes."""
    scale = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / scale) if scale else 0.0


def spectral_radius(form: Form, point: Point) -> float | None:
    """The largest modulus of an eigenvalue of M in `(I + M)^-1`, over the members of the families."""
    radii = []
    for word in form.words:
        for factor in word.factors:
            if isinstance(factor, Inverse):
                rest = factor.of - Form.identity(factor.of.rows)
                radii += [_radius(rest, at) for at in _members(word, point)]
    return max(radii, default=None)


def _radius(form: Form, point: Point) -> float:
    """A symmetric matrix, as a Gram matrix is, has its eigenvalues at a fraction of the cost."""
    value = form_value(form, point)
    symmetric = np.abs(value - value.T).max() <= 1e-12 * np.abs(value).max()
    return float(np.abs(np.linalg.eigvalsh(value) if symmetric else np.linalg.eigvals(value)).max())


def _members(word: Word, point: Point) -> list[Point]:
    points = [point]
    for index, family in word.over:
        points = [at.at(index, k) for at in points for k in range(point.size(family))]
    return points


def _energy_finding(place: str, step: DerivedStep, point: Point) -> Finding:
    """The stated energy before and after the step as compiled: as read (normed), and raw."""
    objective = step.objective
    after = execute(step.assignments, point).with_matrix(step.result.name, step_result(step, point))
    values = [_energy(step, form, after) for form in (objective.before, objective.after)]
    detail = ""
    if objective.renorm:
        start, result = point.matrices[step.raw.name], form_value(objective.after, after)
        raw = [_energy_at(step, tokens, _held(step, start, after)) for tokens in (start, result)]
        held = _held(step, normalised(start), after)
        values = [_energy_at(step, normalised(tokens), held) for tokens in (start, result)]
        detail = f"; on raw tokens {raw[0]:.4g} -> {raw[1]:.4g}"
    verdict = _verdict(step, values, after)
    claim = f"{step.step.energy.name} before and after the step"
    return Finding(place, claim, None, None, f"{values[0]:.4g} -> {values[1]:.4g}, {verdict}{detail}")


def _verdict(step: DerivedStep, values: list[float], point: Point) -> str:
    """Whether the energy moved as it should; a start outside the constraints has an infinite energy."""
    if starts_outside(step, point):
        return "the start lies outside the constraint, which these values leave out"
    return _direction(step, *values)


def starts_outside(step: DerivedStep, point: Point) -> bool:
    """Whether a proximal step starts where a constraint of its energy does not hold, so that it is infinite there."""
    if not any(line.rule == "prox" for line in step.record):
        return False
    stated = step.record[0].after
    start = form_value(step.objective.before, point)
    held = {step.raw.name: point.matrices[step.read.name]}
    at = replace(point, matrices={**point.matrices, **held, step.objective.variable.name: start})
    return bool(np.isinf(tree_value(stated, at)))


def _held(step: DerivedStep, tokens: np.ndarray, point: Point) -> Point:
    """The point with the step's quantities computed from these tokens."""
    return with_quantities(step.quantities, point.with_matrix(step.read.name, tokens)) if step.quantities else point


def _energy_at(step: DerivedStep, value: np.ndarray, point: Point) -> float:
    return float(tree_value(step.objective.energy, point.with_matrix(step.objective.variable.name, value)))


def _energy(step: DerivedStep, form: Form, point: Point) -> float:
    return _energy_at(step, form_value(form, point), point)


# ---- inverses ------------------------------------------------------------------------------------------------------


def _round_trips(derivation: Derivation) -> Iterator[Finding]:
    """How well the steps of a derived inverse undo those they invert, with equal weights and up to scale."""
    encoders = {block.block.role: block for block in derivation.blocks}
    for block in derivation.blocks:
        if block.block.inverse_of:
            origin = encoders[block.block.inverse_of]
            for step, inverse in zip(origin.steps, reversed(block.steps), strict=True):
                yield _round_trip(derivation, origin, block, step, inverse)


def _round_trip(
    derivation: Derivation, origin: DerivedBlock, block: DerivedBlock, step: DerivedStep, inverse: DerivedStep
) -> Finding:
    point = reference_point(derivation.model, origin.block, step)
    start = point.matrices[step.read.name]
    middle = execute(step.assignments, point).matrices[step.result.name]
    back = point.with_matrix(inverse.raw.name, middle).with_matrix(inverse.read.name, middle)
    end = execute(inverse.assignments, back).matrices[inverse.result.name]
    scale = float((end * start).sum() / (end * end).sum())
    error = float(np.linalg.norm(scale * end - start) / np.linalg.norm(start))
    place = f"{block.block.role}.{inverse.step.label}"
    return Finding(
        place, f"round trip through {origin.block.role}.{step.step.label}", error, None, "equal weights, up to scale"
    )
