"""The tables of the subspaces and dictionaries of one network: every state beside the other, a row for each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runtime.inspection.evenly import positions
from runtime.inspection.geometry import Atoms, Family, Outer
from runtime.instruments.section import Cell, Sheet

RANKS = 65  # values of one curve that a table holds
THINNED = f"of more than {RANKS} those of {RANKS} ranks at equal distances"


def layers(states: Mapping[str, Sequence[Family]]) -> Sheet:
    """A row for each family: what holds for all its members together."""
    rows = [
        (state, each.at.label, each.at.parameter.name, len(each.members), each.at.value.shape[2], each.smallest,
         each.mean, each.frame.scale, each.frame.plain, each.frame.scaled)
        for state, found in states.items()
        for each in found
    ]  # fmt: skip
    columns = (
        "state", "step", "family", "subspaces", "dimensions", "smallest principal angle, degrees",
        "mean principal angle, degrees", "scale c of S = sum_k U_k U_k'", "|S - I| / |I|", "|S - cI| / |cI|",
    )  # fmt: skip
    return Sheet("families", "The families of subspaces.", columns, rows)


def members(states: Mapping[str, Sequence[Family]]) -> Sheet:
    """A row for each subspace of each family."""
    rows = [
        (state, each.at.label, each.at.parameter.name, k, member.scale, member.plain, member.scaled)
        for state, found in states.items()
        for each in found
        for k, member in enumerate(each.members)
    ]
    columns = ("state", "step", "family", "k", "scale c of G = U_k'U_k", "|G - I| / |I|", "|G - cI| / |cI|")
    return Sheet("bases", "How orthonormal the basis of every subspace is.", columns, rows)


def pairs(states: Mapping[str, Sequence[Family]]) -> Sheet:
    """A row for every two subspaces of a family."""
    rows = [
        (state, each.at.label, each.at.parameter.name, i, j,
         *(float(kind[i, j]) for kind in (each.angles.smallest, each.angles.mean, each.angles.largest)))
        for state, found in states.items()
        for each in found
        for i, j in each.angles.pairs
    ]  # fmt: skip
    columns = ("state", "step", "family", "i", "j", "smallest, degrees", "mean, degrees", "largest, degrees")
    return Sheet("angles", "Principal angles between every two subspaces.", columns, rows)


def freed(states: Mapping[str, Sequence[Outer]]) -> Sheet:
    """A row for each freed matrix, and one for each of its members."""
    rows: list[tuple[Cell, ...]] = []
    for state, found in states.items():
        for each in found:
            names = (state, each.at.label, each.at.parameter.name, each.inner)
            whole = each.whole
            rows.append((*names, None, whole.cosine, whole.distance, whole.scaled, None))
            rows += [
                (*names, k, member.cosine, member.distance, member.scaled, angle)
                for k, (member, angle) in enumerate(zip(each.members, each.angles, strict=True))
            ]
    columns = (
        "state", "step", "matrix", "in place of", "k", "cosine", "relative distance",
        "relative distance up to scale", "mean angle between the spans, degrees",
    )  # fmt: skip
    caption = "Matrices that took the place of another one, as a whole (k empty) and member by member."
    return Sheet("freed", caption, columns, rows)


def dictionaries(states: Mapping[str, Sequence[Atoms]]) -> Sheet:
    rows = [
        (state, each.at.label, each.at.parameter.name, *each.at.value.shape, each.numbers.coherence,
         each.numbers.typical, each.numbers.welch, each.numbers.condition, float(each.numbers.values[0]),
         float(each.numbers.values[-1]), each.numbers.tightness, each.numbers.empty, each.moved)
        for state, found in states.items()
        for each in found
    ]  # fmt: skip
    columns = (
        "state", "step", "matrix", "features", "atoms", "coherence", "mean |cosine|", "Welch bound",
        "condition number", "largest singular value", "smallest singular value",
        "distance from orthogonality, up to scale", "atoms that are zero", "relative distance from the initial one",
    )  # fmt: skip
    return Sheet("dictionaries", "The dictionaries.", columns, rows)


def steps(states: Mapping[str, Sequence[Atoms]]) -> Sheet:
    """A row for every iteration of every proximal step."""
    rows = [
        (state, each.at.label, number, size, each.lipschitz, each.bound, 2 * each.bound, size * each.lipschitz,
         size <= each.bound, size <= 2 * each.bound)
        for state, found in states.items()
        for each in found
        if each.bound is not None
        for number, size in enumerate(each.sizes, 1)
    ]  # fmt: skip
    columns = (
        "state", "step", "iteration", "eta", "L", "1/L", "2/L", "eta L", "eta up to 1/L", "eta up to 2/L",
    )  # fmt: skip
    caption = "Step sizes of sparse coding beside their bounds; L is the Lipschitz constant of the smooth part."
    return Sheet("steps", caption, columns, rows)


def singular_values(states: Mapping[str, Sequence[Atoms]]) -> Sheet:
    rows = [
        (state, each.at.label, each.at.parameter.name, rank, value)
        for state, found in states.items()
        for each in found
        for rank, value in by_rank(each.numbers.values)
    ]
    caption = f"Singular values of the dictionaries, {THINNED}."
    return Sheet("singular-values", caption, ("state", "step", "matrix", "rank", "singular value"), rows)


def by_rank(values: np.ndarray) -> list[tuple[int, float]]:
    """Falling values with their ranks, which count from 1; at most RANKS of them."""
    return [(place + 1, float(values[place])) for place in positions(len(values), RANKS)]
