"""All numbers of the subspaces, the dictionaries and the freed matrices of one network, along depth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch import nn

from crate_dsl import Compilation
from runtime.inspection.dictionaries import Dictionary, dictionary, lipschitz, step_sizes
from runtime.inspection.matrices import Found, found, freed_from, is_dictionary, is_family, is_freed
from runtime.inspection.subspaces import (
    Angles,
    Freed,
    Multiple,
    frame,
    freed,
    mean_angle,
    orthonormality,
    pairwise_angles,
)


@dataclass(frozen=True)
class Family:
    """One family of K subspaces: `members` say how orthonormal each basis is."""

    at: Found
    members: list[Multiple]
    frame: Multiple
    angles: Angles

    @property
    def scaled(self) -> list[float]:
        return [member.scaled for member in self.members]

    @property
    def smallest(self) -> float:
        """The smallest principal angle of any two subspaces; nan of one subspace alone."""
        return float(np.nanmin(self.angles.smallest)) if self.angles.pairs else np.nan

    @property
    def mean(self) -> float:
        return float(np.nanmean(self.angles.mean)) if self.angles.pairs else np.nan


@dataclass(frozen=True)
class Outer:
    """A matrix that was freed, beside the `inner` one; of families also member by member, with angles of the spans."""

    at: Found
    inner: str
    whole: Freed
    members: list[Freed]
    angles: list[float]


@dataclass(frozen=True)
class Atoms:
    """One dictionary. `sizes` are the steps of its iterations, `lipschitz` the constant L that bounds them, or None.

    `moved` is |D - D_0| / |D_0| from the initial network; None without one.
    """

    at: Found
    numbers: Dictionary
    sizes: list[float]
    lipschitz: float | None
    moved: float | None

    @property
    def bound(self) -> float | None:
        """1 / L, the step up to which an iteration minimises a majorant of the energy; None without an L."""
        return 1 / self.lipschitz if self.lipschitz else None

    @property
    def over_bound(self) -> float | None:
        """The largest step size times L."""
        return max(self.sizes) * self.lipschitz if self.sizes and self.lipschitz is not None else None


def families(compilation: Compilation, network: nn.Module) -> Iterator[Family]:
    for at in found(compilation, network, is_family):
        yield Family(at, orthonormality(at.value), frame(at.value), pairwise_angles(at.value))


def outers(compilation: Compilation, network: nn.Module) -> Iterator[Outer]:
    for at in found(compilation, network, is_freed):
        inner = freed_from(at.place, at.parameter)
        stated = at.place.matrix(inner)
        pairs = list(zip(at.value, stated, strict=True)) if at.parameter.shape.family else []
        yield Outer(
            at,
            inner.name,
            freed(at.value, stated),
            [freed(*pair) for pair in pairs],
            [mean_angle(*pair) for pair in pairs],
        )


def dictionaries(compilation: Compilation, network: nn.Module, initial: nn.Module | None) -> Iterator[Atoms]:
    """Every dictionary of `network`, and how far it is from that of `initial`."""
    began = found(compilation, initial, is_dictionary) if initial else None
    for at in found(compilation, network, is_dictionary):
        numbers = dictionary(at.value)
        start = next(began).value if began else None
        moved = float(np.linalg.norm(at.value - start) / np.linalg.norm(start)) if began else None
        iterations = step_sizes(at.place)
        constant = lipschitz(at.place, at.parameter.name, float(numbers.values[0])) if iterations else None
        yield Atoms(at, numbers, iterations, constant, moved)
