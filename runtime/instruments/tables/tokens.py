"""The tables of the tokens of one network: every state beside the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from runtime.inspection.token_numbers import Activity, Nearest, Ranks
from runtime.instruments.section import Cell, Sheet
from runtime.instruments.tables.geometry import THINNED, by_rank


def ranks(states: Mapping[str, Sequence[Ranks]]) -> Sheet:
    rows = [
        (state, each.label, len(each.effective), len(each.spectrum), *mean_and_spread(each.effective),
         *mean_and_spread(each.stable))
        for state, found in states.items()
        for each in found
    ]  # fmt: skip
    columns = (
        "state", "after step", "inputs", "most that is possible", "effective rank", "effective rank, deviation",
        "stable rank", "stable rank, deviation",
    )  # fmt: skip
    return Sheet("ranks", "Ranks of the tokens of one input: means over the inputs and deviations.", columns, rows)


def mean_and_spread(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std())


def spectra(states: Mapping[str, Sequence[Ranks]]) -> Sheet:
    rows = [
        (state, each.label, rank, value)
        for state, found in states.items()
        for each in found
        for rank, value in by_rank(each.spectrum)
    ]
    caption = f"Singular values of the tokens over the largest, mean over the inputs; {THINNED}."
    return Sheet("spectra", caption, ("state", "after step", "rank", "singular value over the largest"), rows)


def neighbours(states: Mapping[str, Sequence[Nearest]]) -> Sheet:
    """Whether tokens beside each other are nearest to the same subspace; of tokens without order, the rest of it."""
    rows: list[tuple[Cell, ...]] = [
        (state, each.label, each.maps.size, *((each.agreement, each.chance) if each.ordered else (None, None)),
         each.inside, each.same)
        for state, found in states.items()
        for each in found
    ]  # fmt: skip
    columns = (
        "state", "step", "tokens", "same subspace as the right neighbour", "by chance",
        "|U_k'z|^2 / |z|^2 of the nearest", "same with orthonormal bases",
    )  # fmt: skip
    return Sheet("neighbours", "Nearest subspaces of tokens that are neighbours.", columns, rows)


def shares(states: Mapping[str, Sequence[Nearest]]) -> Sheet:
    rows = [
        (state, each.label, k, float(share))
        for state, found in states.items()
        for each in found
        for k, share in enumerate(each.shares)
    ]
    caption = "The share of tokens that is nearest to each subspace, without class tokens."
    return Sheet("subspace-shares", caption, ("state", "step", "k", "share of tokens"), rows)


def maps(states: Mapping[str, Sequence[Nearest]], names: Sequence[str]) -> Sheet:
    """The maps that are shown, each as one text: patches from left to right, rows apart."""
    rows = [
        (state, each.label, name, " / ".join(" ".join(map(str, row)) for row in kinds))
        for state, found in states.items()
        for each in found
        for name, kinds in zip(names, each.maps, strict=True)
    ]
    return Sheet("maps", "The maps in the figures, row by row.", ("state", "step", "image", "nearest subspaces"), rows)


def activity(states: Mapping[str, Sequence[Activity]]) -> Sheet:
    rows = [
        (state, each.label, len(each.shares), each.tokens, each.active, each.dead,
         float((each.shares > 0.5).mean()), float((each.shares == 1).mean()))
        for state, found in states.items()
        for each in found
    ]  # fmt: skip
    columns = (
        "state", "step", "features", "tokens", "entries that are not zero", "dead features",
        "features on for over half of the tokens", "features on for all tokens",
    )  # fmt: skip
    return Sheet("codes", "Sparse codes, shares of 1.", columns, rows)


def features(states: Mapping[str, Sequence[Activity]]) -> Sheet:
    rows = [
        (state, each.label, rank, value)
        for state, found in states.items()
        for each in found
        for rank, value in by_rank(np.sort(each.shares)[::-1])
    ]
    caption = f"For how many of the tokens a feature is not zero, features in falling order; {THINNED}."
    return Sheet("feature-activity", caption, ("state", "step", "rank", "share of tokens"), rows)
