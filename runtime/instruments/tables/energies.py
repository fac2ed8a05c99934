"""Tables of energies along depth: raw numbers, a row per step, layer, network, split and kind of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from torch import Tensor

from runtime.inspection.descent import PREFIX, Departure, Movement, Start
from runtime.inspection.mixing import Mixture
from runtime.instruments.section import Cell, Sheet

COUNTED = ("step", "layer", "network", "split", "tokens")

Of = TypeVar("Of", Movement, Start)
Moves = Mapping[tuple[str, str, bool], list[Movement]]  # by state, split and whether of raw tokens


def energy_sheet(moves: Moves) -> Sheet:
    """Mean and standard deviation of every energy before and after every step."""
    rows: list[tuple[Cell, ...]] = []
    for (state, split, raw), found in moves.items():
        for each in found:
            place = each.place
            energy = place.derived.step.energy.name
            numbers = (each.before.mean(), deviation(each.before), each.after.mean(), deviation(each.after))
            tokens = "raw" if raw else "as read"
            meant = ("rises" if each.up else "falls", each.goes_as_meant)
            rows.append((place.label, place.layer, state, split, tokens, energy, *map(float, numbers), *meant))
    columns = ("energy", "before", "deviation before", "after", "deviation after", "meant to", "does so")
    caption = "Mean and standard deviation over the inputs of every stated energy, before and after every step."
    return Sheet("energies", caption, (*COUNTED, *columns), rows)


def descent_sheet(moves: Moves) -> Sheet:
    """In how many layers every step moves its energy as it is meant to."""
    rows: list[tuple[Cell, ...]] = []
    for (state, split, raw), found in moves.items():
        for label, layers in by_label(found).items():
            count = sum(each.goes_as_meant for each in layers)
            direction = "rises" if layers[0].up else "falls"
            rows.append((label, state, split, "raw" if raw else "as read", direction, count, len(layers)))
    caption = "In how many layers the mean energy moves as the step is meant to move it."
    return Sheet("descent", caption, ("step", "network", "split", "tokens", "meant to", "layers that do", "of"), rows)


def start_sheet(starts: Mapping[str, list[Start]]) -> Sheet:
    rows = [
        (each.place.label, each.place.layer, state, each.outside, each.inputs)
        for state, found in starts.items()
        for each in found
    ]
    caption = (
        "Of how many held-out inputs a proximal step starts outside the constraint that its energy states. The energy "
        "is infinite there; the values before the step leave the constraint out."
    )
    return Sheet("starts", caption, ("step", "layer", "network", "inputs that start outside", "of"), rows)


def departure_sheet(away: Mapping[str, list[Departure]]) -> Sheet:
    rows = [
        (each.place.label, each.place.layer, state, each.rule, each.error, each.cosine, each.radius)
        for state, found in away.items()
        for each in found
    ]
    caption = (
        "Displacement of the tokens beside the exact step's, after each approximation and those above it; the "
        "spectral radius of what a Neumann series expands, which converges below 1. "
        f"Means over {next(each.inputs for found in away.values() for each in found)} held-out inputs; of causal steps "
        f"over their first {PREFIX} tokens."
    )
    columns = ("step", "layer", "network", "after", "relative error", "cosine", "spectral radius")
    return Sheet("departures", caption, columns, rows)


def mixture_sheet(found: list[Mixture]) -> Sheet:
    shares = [f"{1 - a:g} X + {a:g} operator" for a in found[0].averaged]
    alone = [f"{1 - a:g} X" for a in found[0].shrunk]
    rows: list[tuple[Cell, ...]] = [
        (each.place.label, each.place.layer, each.tokens,
         *(float(v.mean()) for v in mixture_values(each)))
        for each in found
    ]  # fmt: skip
    caption = (
        "The stated energy of the tokens X of a step, raw or as its operator reads them, and of what can be made of X "
        f"and the operator. Means over {len(found[0].start)} held-out inputs."
    )
    columns = ("step", "layer", "tokens X", "X", "X + operator", "norm of X + operator", *shares, *alone)
    return Sheet("mixing", caption, columns, rows)


def mixture_values(each: Mixture) -> tuple[Tensor, ...]:
    return (each.start, each.added, each.renormed, *each.averaged.values(), *each.shrunk.values())


def by_label(found: Sequence[Of]) -> dict[str, list[Of]]:
    """The layers of every step, in the order of the steps."""
    grouped: dict[str, list[Of]] = {}
    for each in found:
        grouped.setdefault(each.place.label, []).append(each)
    return grouped


def deviation(values: Tensor) -> float:
    """0 for one input."""
    return float(values.std(correction=0))
