"""What every step does to its stated energy, and how far it is from the exact step, at trained weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from crate_dsl import Compilation
from crate_dsl.mathematics.certify import cosine, operator_columns, spectral_radius, starts_outside
from crate_dsl.mathematics.derivation import DerivationStep
from runtime.errors import Inapplicable
from runtime.inspection.places import Place, columns, places

PREFIX = 32  # tokens of a causal step that its departure is measured on: it is evaluated prefix by prefix


@dataclass(frozen=True)
class Movement:
    """The stated energy of one step before and after it, one number per input, (batch,) each; `up` where it is meant
    to rise."""

    place: Place
    before: Tensor
    after: Tensor

    @property
    def up(self) -> bool:
        return self.place.derived.step.ascends

    @property
    def goes_as_meant(self) -> bool:
        """By the means over the batch."""
        difference = float((self.after - self.before).mean())
        return difference > 0 if self.up else difference < 0


@torch.no_grad()
def movements(compilation: Compilation, network: nn.Module, arguments: tuple[Tensor, ...], raw: bool) -> list[Movement]:
    """Every step whose energy has a value, in the order of the layers, of the tokens as the step reads them or raw.

    Raises Inapplicable where the network reports no energies.
    """
    if not hasattr(network, "energies"):
        raise Inapplicable("this network states no energies")
    found = network.energies(*arguments, raw=raw)
    return [Movement(place, *found[place.name]) for place in places(compilation, network) if place.name in found]


def states_before(features: Mapping[str, Tensor], found: Iterable[Place]) -> Iterator[tuple[Place, Tensor]]:
    """Every place with the tokens (batch, N, d) that come into it."""
    names = list(features)
    for place in found:
        yield place, features[names[names.index(place.name) - 1]]


@dataclass(frozen=True)
class Start:
    """Of how many inputs, `outside` of `inputs`, a proximal step starts outside the constraint of its energy.

    The stated energy is infinite there; `energies` leaves the constraint out of what it gives.
    """

    place: Place
    outside: int
    inputs: int


def start_of(place: Place, tokens: Tensor) -> Start | None:
    """For the tokens (inputs, N, d) that come into a step; None where the step has no proximal map."""
    if not any(line.rule == "prox" for line in place.derived.record):
        return None
    found = [starts_outside(place.derived, place.point(each)) for each in columns(place.read(tokens))]
    return Start(place, sum(found), len(found))


@dataclass(frozen=True)
class Departure:
    """How far an approximation takes the step from the exact one, at one layer, averaged over some inputs.

    `rules` are those applied so far, in their order. `error` is |displacement - exact displacement| over the norm of
    the exact one, `cosine` that of the two; `radius` is the spectral radius where a Neumann series came in, else None.
    """

    place: Place
    rule: str
    error: float
    cosine: float
    radius: float | None
    inputs: int


def departures(place: Place, tokens: Tensor) -> Iterator[Departure]:
    """One for every approximated site of a step, in their order; none where the step is exact.

    `tokens` (inputs, N, d) are those that come into the step. Both displacements are taken at the tokens as the step
    reads them. What is learned apart (`adjoint ~ free`) is in them as trained.
    """
    lines = [line for line in place.derived.record if "~" in line.rule]
    if not lines:
        return
    results = [list(departures_at(place, lines, each)) for each in columns(place.read(tokens))]
    for number, line in enumerate(lines):
        errors, cosines, radii = zip(*(result[number] for result in results), strict=True)
        radius = None if radii[0] is None else float(np.mean(radii))
        yield Departure(place, line.rule, float(np.mean(errors)), float(np.mean(cosines)), radius, len(results))


def departures_at(
    place: Place, lines: list[DerivationStep], tokens: np.ndarray
) -> Iterator[tuple[float, float, float | None]]:
    """Error, cosine and spectral radius after each line, for the tokens (d, N) of one input."""
    point = place.point(tokens, PREFIX if place.derived.step.causal else None)
    tokens = point.matrices[place.derived.read.name]
    exact = operator_columns(place.derived, lines[0].before, point) - tokens
    for line in lines:
        now = operator_columns(place.derived, line.after, point) - tokens
        error = float(np.linalg.norm(now - exact) / np.linalg.norm(exact))
        yield error, cosine(now, exact), spectral_radius(line.before, point) if "neumann" in line.rule else None
