"""How cost grows: of the operators with the tokens, of the network with its width and its depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from runtime.bench import memory
from runtime.bench.accuracy import Errors, relative
from runtime.bench.case import Case, case
from runtime.bench.contestants import WAYS, gather
from runtime.bench.measure import DTYPES, Costs, costs_of
from runtime.bench.operators import OPERATORS, Mixer
from runtime.bench.progress import Bar
from runtime.bench.race import race
from runtime.bench.workload import workload
from runtime.errors import UserError

TOKENS = (64, 128, 197, 256, 512, 1024, 2048, 4096, 8192)
TOGETHER = 2048  # tokens of a batch of operators, about: shorter inputs are taken several at a time
WIDTHS, DEPTHS = (0.5, 1, 2), (0.25, 0.5, 1)  # of those of the spec
SHALLOW = 2  # layers of the networks of different widths, at most


@dataclass(frozen=True)
class Point:
    """What one contestant costs at one number of tokens, width or depth, over a batch."""

    label: str
    at: int
    batch: int
    costs: Costs
    errors: Errors | None = None


@dataclass(frozen=True)
class Axis:
    """One sweep: its name, what else is fixed, and points in the order of measuring."""

    name: str
    fixed: str
    points: tuple[Point, ...]

    @property
    def labels(self) -> list[str]:
        return list(dict.fromkeys(point.label for point in self.points))

    @property
    def places(self) -> list[int]:
        return sorted({point.at for point in self.points})

    def batch(self, at: int) -> int:
        return next(point.batch for point in self.points if point.at == at)

    def point(self, label: str, at: int) -> Point:
        return next(point for point in self.points if (point.label, point.at) == (label, at))


@dataclass(frozen=True)
class Setting:
    """Options of all sweeps."""

    batch: int
    precision: str
    rounds: int
    device: torch.device
    bar: Bar


# ---- operators -------------------------------------------------------------------------------------------------


def over_tokens(heads: int, width: int, tokens: Sequence[int], setting: Setting) -> Axis:
    """All operators, in turns at each number of tokens."""
    points = []
    for count in tokens:
        batch = max(1, TOGETHER // count)
        shape = (batch, heads, count, width)
        w = torch.randn(shape, dtype=DTYPES[setting.precision], device=setting.device)
        errors = operator_errors(w)
        points += [Point(label, count, batch, own, errors[label]) for label, own in operator_costs(w, setting).items()]
    return Axis("tokens", f"{heads} heads of {width}", tuple(points))


def operator_costs(w: Tensor, setting: Setting) -> dict[str, Costs]:
    """Of every operator on the same tokens, (batch, heads, N, p)."""
    leaf, bar = w.detach().requires_grad_(), setting.bar

    def times(name: str, actions: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        bar.stage(f"{w.shape[-2]} tokens, {name}", setting.rounds * len(actions))
        return race(actions, setting.rounds, setting.device, bar.tick)

    forward = times("forward", {label: partial(mixed, mixer, w) for label, mixer in OPERATORS.items()})
    both = {label: partial(forward_backward, mixer, leaf) for label, mixer in OPERATORS.items()}
    training = times("forward and backward", both)
    peaks = {label: memory.peak(action, setting.device) for label, action in both.items()}
    return {label: Costs(forward[label], training[label], peaks[label]) for label in OPERATORS}


def operator_errors(w: Tensor) -> dict[str, Errors]:
    """Of value and gradient of every operator, relative to its own in float64."""
    found = {}
    for label, mixer in OPERATORS.items():
        (value, slope), (exact, exact_slope) = (with_gradient(mixer, tokens) for tokens in (w, w.double()))
        found[label] = Errors(relative({"": value}, {"": exact}), relative({"": slope}, {"": exact_slope}))
    return found


def with_gradient(mixer: Mixer, w: Tensor) -> tuple[Tensor, Tensor]:
    """The value, and the gradient of the sum of its entries."""
    leaf = w.detach().requires_grad_()
    result = mixer(leaf)
    return result.detach(), *torch.autograd.grad(result, leaf, torch.ones_like(result))


@torch.no_grad()
def mixed(mixer: Mixer, w: Tensor) -> Tensor:
    return mixer(w)


def forward_backward(mixer: Mixer, leaf: Tensor) -> None:
    """With a gradient of ones from above, which costs next to nothing itself."""
    result = mixer(leaf)
    torch.autograd.grad(result, leaf, torch.ones_like(result))


# ---- networks --------------------------------------------------------------------------------------------------


def over_width(given: Case, baselines: Sequence[str], heads: Sequence[int] | None, setting: Setting) -> Axis:
    """Networks of more heads of the same width, and few layers."""
    sizes = given.sizes
    depth = min(sizes.depth, SHALLOW)
    chosen = heads or scaled(sizes.heads, WIDTHS)
    each = sizes.width // sizes.heads  # of the width d for every head
    points: list[Point] = []
    for count in chosen:
        points += network_points(given, baselines, {"K": count, "d": count * each, "L": depth}, count * each, setting)
    return Axis("width", f"heads of {sizes.head_width}, {depth} layers", tuple(points))


def over_depth(given: Case, baselines: Sequence[str], depths: Sequence[int] | None, setting: Setting) -> Axis:
    points: list[Point] = []
    for depth in depths or scaled(given.sizes.depth, DEPTHS):
        points += network_points(given, baselines, {"L": depth}, depth, setting)
    return Axis("depth", f"width {given.sizes.width}, {given.sizes.heads} heads", tuple(points))


def scaled(size: int, factors: Sequence[float]) -> list[int]:
    """
    >>> scaled(6, (0.25, 0.5, 1))
    [1, 3, 6]
    """
    return sorted({max(1, int(size * factor)) for factor in factors})


def network_points(
    given: Case, baselines: Sequence[str], changed: dict[str, int], at: int, setting: Setting
) -> list[Point]:
    """The compiled network and its baselines with some sizes changed."""
    other = case(given.spec, given.preset, {**given.overrides, **changed}, setting.device)
    work = workload(other.network, other.compiled.shape, setting.batch, setting.precision)
    field = gather(other, baselines, frozenset(), work, WAYS[:1])
    costs = costs_of(field.contestants, work, setting.rounds, setting.bar)
    return [Point(label, at, setting.batch, found) for label, found in costs.items()]


def numbers(text: str, option: str) -> list[int]:
    """
    >>> numbers("64,128", "--tokens")
    [64, 128]
    """
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1:
        raise UserError(f"{option} {text}: give numbers from 1 on with commas between, 64,256,1024 for instance")
    return found
