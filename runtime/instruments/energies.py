"""Energies along depth: what every step does to the energy that it is stated to lower, and how exact it is."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from runtime.inspection.descent import (
    Departure,
    Movement,
    Start,
    departures,
    movements,
    start_of,
    states_before,
)
from runtime.inspection.mixing import RAW, READ, Mixture, adds_its_operator, mixtures
from runtime.inspection.places import Place, places
from runtime.inspection.workload import affordable
from runtime.instruments.drawing import energies as drawing
from runtime.instruments.section import Curve, Section
from runtime.instruments.subject import Subject
from runtime.instruments.tables.energies import (
    Moves,
    by_label,
    departure_sheet,
    descent_sheet,
    deviation,
    energy_sheet,
    mixture_sheet,
    start_sheet,
)

NAME, TITLE = "energies", "Energies along depth"
FEW, LEAST = 4, 2  # inputs for what takes an inverse of the size of the tokens, at most and at least
# What a part costs per input, in forward passes of the network; measured on CRATE with 197 tokens.
ENERGIES, MIXING, EXACT = 4, 15, 600


def measured(subject: Subject) -> Section:
    """Stated energies before and after every step, and the distance of every step from the exact one."""
    subject = subject.fewer(afforded(subject))
    moves = all_movements(subject)
    few = affordable(subject.compilation, EXACT * len(subject.states), FEW, LEAST)
    away = {state: list(all_departures(subject, state, few)) for state in subject.states}
    starts = {state: list(all_starts(subject, state, few)) for state in subject.states}
    mixed = list(all_mixtures(subject))
    panels = [drawing.moved(moves)]
    panels += [drawing.departed(away)] if any(away.values()) else []
    panels += [drawing.mixed(mixed)] if mixed else []
    sheets = [energy_sheet(moves), descent_sheet(moves)]
    sheets += [start_sheet(starts)] if any(starts.values()) else []
    sheets += [departure_sheet(away)] if any(away.values()) else []
    sheets += [mixture_sheet(mixed)] if mixed else []
    state = next(iter(subject.states))
    found = moves[state, "held out", False]
    said = (*text(found, len(subject.held_out)), *start_text(starts[state]), *mixture_text(mixed))
    return Section(NAME, TITLE, said, panels, sheets, list(curves(moves)))


def afforded(subject: Subject) -> int:
    """The inputs of each split that this network's energies can be taken of in about a minute."""
    most = max(len(subject.held_out), len(subject.train))
    return affordable(subject.compilation, 4 * ENERGIES * len(subject.states) + MIXING, most)  # two splits, raw or not


def all_movements(subject: Subject) -> Moves:
    return {
        (state, split, raw): movements(subject.compilation, network, subject.arguments(batch), raw)
        for state, network in subject.states.items()
        for split, batch in (("held out", subject.held_out), ("training", subject.train))
        for raw in (False, True)
    }


def all_departures(subject: Subject, state: str, count: int) -> Iterator[Departure]:
    """Of every step with approximations, on the first `count` held-out inputs."""
    for place, tokens in incoming(subject, state, count):
        yield from departures(place, tokens)


def all_starts(subject: Subject, state: str, count: int) -> Iterator[Start]:
    """Of every proximal step, on the first `count` held-out inputs."""
    for place, tokens in incoming(subject, state, count):
        if (start := start_of(place, tokens)) is not None:
            yield start


def all_mixtures(subject: Subject) -> Iterator[Mixture]:
    """Of every step of the network that adds a softmax operator to its tokens, on all held-out inputs."""
    if any(adds_its_operator(place) for place in places(subject.compilation, subject.network)):
        for place, tokens in incoming(subject, next(iter(subject.states))):
            if adds_its_operator(place):
                yield from mixtures(place, tokens)


@torch.no_grad()
def incoming(subject: Subject, state: str, count: int | None = None) -> Iterator[tuple[Place, Tensor]]:
    """Every place with the tokens of the first `count` held-out inputs, or of all of them, that come into it."""
    network = subject.states[state]
    features = network.features(*(value[:count] for value in subject.arguments(subject.held_out)))
    return states_before(features, list(places(subject.compilation, network)))


# ---- text and curves -----------------------------------------------------------------------------------------------


def text(found: list[Movement], inputs: int) -> tuple[str, ...]:
    said = [
        "Every step states an energy and is derived to lower it (to raise it, where a decoder undoes compression). "
        "Shown is that energy before and after each step, of the tokens as the step reads them: where a step moves the "
        "tokens, its own norm is applied to both; where it finds a code, to the tokens that it reads, and the code is "
        "taken as the step starts and ends. Raw tokens, which norms between layers rescale, are in the table. "
        f"Of each split {inputs} inputs are put through it."
    ]
    for label, layers in by_label(found).items():
        count = sum(each.goes_as_meant for each in layers)
        direction = "rises" if layers[0].up else "falls"
        said.append(f"{label}: the energy {direction}, as meant, in {count} of {len(layers)} layers (held out).")
    return tuple(said)


def start_text(found: list[Start]) -> Iterator[str]:
    """Where a fall of the energy says less than it seems to."""
    for label, layers in by_label(found).items():
        if outside := sum(each.outside > 0 for each in layers):
            yield (
                f"{label} starts outside its own constraint in {outside} of {len(layers)} layers ({layers[0].inputs} "
                "held-out inputs looked at): the stated energy is infinite there. What is shown before the step leaves "
                "the constraint out, and beside what follows it does not say whether the step descends."
            )


def mixture_text(found: list[Mixture]) -> Iterator[str]:
    """What adding does to raw tokens, and what the convex form would do at the same layers and tokens."""
    names = {RAW: "Z, the raw tokens that come into the step", READ: "V, the tokens as the operator reads them"}
    for tokens, name in names.items():
        layers = [each for each in found if each.tokens == tokens]
        if layers:
            rises, shares = sum(each.adding_raises for each in layers), layers[0].averaged
            lowers = [f"in {sum(each.averaging_lowers(a) for each in layers)} at a = {a:g}" for a in shares]
            more = [sum(each.averaging_lowers_more_than_shrinking(a) for each in layers) for a in shares]
            yield (
                f"Of {name}: adding the operator raises the stated energy in {rises} of {len(layers)} layers. The "
                f"paper's convex form (1 - a) X + a operator lowers it {', '.join(lowers)}; the factor 1 - a alone "
                "lowers a rate too, and below that of (1 - a) X the convex form comes in "
                f"{' and '.join(map(str, more))}. ({len(layers[0].start)} held-out inputs; the operator is the one "
                "learned, with its freed outer map.)"
            )


def curves(moves: Moves) -> Iterator[Curve]:
    """Every energy after its step, held out, of the network as trained."""
    state = next(iter(moves))[0]
    for label, layers in by_label(moves[state, "held out", False]).items():
        step = layers[0].place.derived.step
        values = tuple(float(each.after.mean()) for each in layers)
        spread = tuple(deviation(each.after) for each in layers)
        names = tuple(str(each.place.layer) for each in layers)
        yield Curve(f"{step.energy.name} after {label}, held out", names, values, spread)
