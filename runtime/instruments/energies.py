"""Energies along depth: what every step does to the energy that it is stated to lower, and how exact it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

import torch
from torch import Tensor

from runtime.inspection.descent import PREFIX, Departure, Movement, departures, movements, states_before
from runtime.inspection.mixing import Mixture, adds_its_operator, mixture
from runtime.inspection.places import Place, places
from runtime.instruments.drawing import energies as drawing
from runtime.instruments.section import Cell, Curve, Section, Sheet
from runtime.instruments.subject import Subject

NAME, TITLE = "energies", "Energies along depth"
FEW = 4  # inputs for what takes an inverse of the size of the tokens
COUNTED = ("step", "layer", "network", "split", "tokens")

Moves = Mapping[tuple[str, str, bool], list[Movement]]  # by state, split and whether of raw tokens


def measured(subject: Subject) -> Section:
    """Stated energies before and after every step, and the distance of every step from the exact one."""
    moves = all_movements(subject)
    away = {state: list(all_departures(subject, state)) for state in subject.states}
    mixed = list(mixtures(subject))
    panels = [drawing.moved(moves)]
    panels += [drawing.departed(away)] if any(away.values()) else []
    panels += [drawing.mixed(mixed)] if mixed else []
    sheets = [energy_sheet(moves), descent_sheet(moves)]
    sheets += [departure_sheet(away)] if any(away.values()) else []
    sheets += [mixture_sheet(mixed)] if mixed else []
    return Section(NAME, TITLE, text(subject, moves, mixed), panels, sheets, list(curves(moves)))


def all_movements(subject: Subject) -> Moves:
    return {
        (state, split, raw): movements(subject.compilation, network, subject.arguments(batch), raw)
        for state, network in subject.states.items()
        for split, batch in (("held out", subject.held_out), ("training", subject.train))
        for raw in (False, True)
    }


def all_departures(subject: Subject, state: str) -> Iterator[Departure]:
    """Of every step with approximations, on a few held-out inputs."""
    for place, tokens in incoming(subject, state):
        yield from departures(place, tokens)


def mixtures(subject: Subject) -> Iterator[Mixture]:
    """Of every step of the network that adds a softmax operator to its tokens."""
    for place, tokens in incoming(subject, next(iter(subject.states))):
        if adds_its_operator(place):
            yield mixture(place, tokens)


@torch.no_grad()
def incoming(subject: Subject, state: str) -> Iterator[tuple[Place, Tensor]]:
    """Every place with the tokens of a few held-out inputs that come into it."""
    network = subject.states[state]
    features = network.features(*(value[:FEW] for value in subject.arguments(subject.held_out)))
    return states_before(features, list(places(subject.compilation, network)))


# ---- tables --------------------------------------------------------------------------------------------------------


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


def departure_sheet(away: Mapping[str, list[Departure]]) -> Sheet:
    rows = [
        (each.place.label, each.place.layer, state, each.rule, each.error, each.cosine, each.radius)
        for state, found in away.items()
        for each in found
    ]
    caption = (
        "Displacement of the tokens beside the exact step's, after each approximation and those above it; the "
        "spectral radius of what a Neumann series expands, which converges below 1. "
        f"Means over {FEW} held-out inputs; of causal steps over their first {PREFIX} tokens."
    )
    columns = ("step", "layer", "network", "after", "relative error", "cosine", "spectral radius")
    return Sheet("departures", caption, columns, rows)


def mixture_sheet(found: list[Mixture]) -> Sheet:
    shares = [f"(1 - {a:g}) V + {a:g} operator" for a in found[0].averaged]
    rows = [
        (each.place.label, each.place.layer, *(float(v.mean()) for v in (each.start, each.added, each.renormed)),
         *(float(v.mean()) for v in each.averaged.values()))
        for each in found
    ]  # fmt: skip
    caption = (
        "The stated energy of V, the tokens as the step reads them, and of what can be made of V and the operator."
    )
    return Sheet("mixing", caption, ("step", "layer", "V", "V + operator", "its norm", *shares), rows)


# ---- text and curves -----------------------------------------------------------------------------------------------


def text(subject: Subject, moves: Moves, mixed: list[Mixture]) -> tuple[str, ...]:
    state = next(iter(subject.states))
    said = [
        "Every step states an energy and is derived to lower it (to raise it, where a decoder undoes compression). "
        "Shown is that energy before and after each step, of the tokens as the step reads them: the step's own norm is "
        "applied to both. Raw tokens, which norms between layers rescale, are in the table."
    ]
    for label, layers in by_label(moves[state, "held out", False]).items():
        count = sum(each.goes_as_meant for each in layers)
        direction = "rises" if layers[0].up else "falls"
        said.append(f"{label}: the energy {direction}, as meant, in {count} of {len(layers)} layers (held out).")
    if mixed:
        rises = sum(bool((each.added - each.start).mean() > 0) for each in mixed)
        falls = sum(bool((each.averaged[0.1] - each.start).mean() < 0) for each in mixed)
        said.append(
            f"Adding the operator, V + MSSA(V), raises the energy of tokens that are not normed afterwards in {rises} "
            f"of {len(mixed)} layers; the paper's convex form 0.9 V + 0.1 MSSA(V) lowers it in {falls}."
        )
    return tuple(said)


def curves(moves: Moves) -> Iterator[Curve]:
    """Every energy after its step, held out, of the network as trained."""
    state = next(iter(moves))[0]
    for label, layers in by_label(moves[state, "held out", False]).items():
        step = layers[0].place.derived.step
        values = tuple(float(each.after.mean()) for each in layers)
        spread = tuple(deviation(each.after) for each in layers)
        names = tuple(str(each.place.layer) for each in layers)
        yield Curve(f"{step.energy.name} after {label}, held out", names, values, spread)


def by_label(found: list[Movement]) -> dict[str, list[Movement]]:
    """The layers of every step."""
    ordered = sorted(found, key=lambda each: each.place.label)
    grouped = {label: list(layers) for label, layers in groupby(ordered, key=lambda each: each.place.label)}
    return {each.place.label: grouped[each.place.label] for each in found}


def deviation(values: Tensor) -> float:
    """0 for one input."""
    return float(values.std(correction=0))
