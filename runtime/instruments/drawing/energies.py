"""Figures of energies along depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from runtime.inspection.descent import Departure, Movement
from runtime.inspection.mixing import Mixture
from runtime.instruments.drawing.charts import Chart, Line, around, charts
from runtime.instruments.section import Panel

LAYER = "layer"  # what the places of these charts are


def moved(moves: Mapping[tuple[str, str, bool], list[Movement]]) -> Panel:
    """Every step's energy before and after, by layer, held out, as trained and as initialised."""
    states = list(dict.fromkeys(state for state, _, _ in moves))
    found = {state: moves[state, "held out", False] for state in states}
    drawn = []
    for label in dict.fromkeys(each.place.label for each in found[states[0]]):
        layers = {state: [each for each in found[state] if each.place.label == label] for state in states}
        lines = [line for number, state in enumerate(states) for line in before_and_after(state, layers[state], number)]
        first = layers[states[0]][0]
        energy, direction = first.place.derived.step.energy.name, "rise" if first.up else "fall"
        drawn.append(Chart(f"{label}: {energy}, meant to {direction}", ticks(layers[states[0]]), lines, energy, LAYER))
    caption = (
        "Stated energies before (dashed) and after (solid) every step, held out; the band is one standard deviation "
        "over the inputs. Where the solid line is below the dashed one the step lowers its energy."
    )
    return Panel("before-and-after", caption, charts(drawn))


def before_and_after(state: str, layers: list[Movement], colour: int) -> Iterable[Line]:
    after = [each.after for each in layers]
    band = around(means(after), [float(values.std(correction=0)) for values in after])
    yield Line(f"{state}, before", means(each.before for each in layers), colour=colour, dash=1, faint=True)
    yield Line(f"{state}, after", means(after), band, colour=colour, dash=0)


def departed(away: Mapping[str, list[Departure]]) -> Panel:
    """Cosine to the exact step after every approximation, and the spectral radii."""
    state = next(iter(away))
    drawn = []
    for label in dict.fromkeys(each.place.label for each in away[state]):
        found = [each for each in away[state] if each.place.label == label]
        rules = list(dict.fromkeys(each.rule for each in found))
        names = ticks(each for each in found if each.rule == rules[0])
        lines = [Line(f"after {rule}", [each.cosine for each in found if each.rule == rule]) for rule in rules]
        drawn.append(Chart(f"{label}: cosine to the exact step, {state}", names, lines, "cosine", LAYER))
        if radii := [each.radius for each in found if each.radius is not None]:
            title, lines = f"{label}: what the Neumann series expands", [Line("spectral radius", radii, colour=5)]
            below = {"1: converges below": 1.0}
            drawn.append(Chart(title, names, lines, "spectral radius", LAYER, below, logarithmic=True))
    caption = (
        "How the displacement of the tokens turns away from the exact gradient step as the spec's approximations are "
        f"made one after the other, at the weights of the {state} network."
    )
    return Panel("departures", caption, charts(drawn))


def mixed(found: list[Mixture]) -> Panel:
    """An axis for raw tokens and one for those read, of every step that adds its operator."""
    drawn = []
    for label in dict.fromkeys(each.place.label for each in found):
        for tokens in dict.fromkeys(each.tokens for each in found):
            layers = [each for each in found if (each.place.label, each.tokens) == (label, tokens)]
            energy = layers[0].place.derived.step.energy.name
            title = f"{label}: X are the tokens {tokens}"
            drawn.append(Chart(title, ticks(layers), list(made_of(layers)), energy, LAYER))
    caption = (
        "Adding the operator to the tokens X, as the official code does, beside averaging it with them, as the paper's "
        "convex form does: the stated energy of the result, held out. Raw tokens are what the layer adds to; tokens as "
        "read are what the operator is derived at. The norm is that of the step, applied to what was added."
    )
    return Panel("mixing", caption, charts(drawn))


def made_of(layers: list[Mixture]) -> Iterable[Line]:
    yield Line("X", means(each.start for each in layers), colour=5, dash=1)
    yield Line("X + operator", means(each.added for each in layers), colour=1, dash=0)
    yield Line("norm of X + operator", means(each.renormed for each in layers), colour=0, dash=0)
    for number, a in enumerate(layers[0].averaged):
        values = means(each.averaged[a] for each in layers)
        yield Line(f"{1 - a:g} X + {a:g} operator", values, colour=2 + number, dash=0)
        alone = means(each.shrunk[a] for each in layers)
        yield Line(f"{1 - a:g} X alone", alone, colour=2 + number, dash=1, faint=True)


def ticks(found: Iterable[Movement | Departure | Mixture]) -> list[str]:
    return [str(each.place.layer) for each in found]


def means(values: Iterable[Tensor]) -> list[float]:
    return [float(value.mean()) for value in values]
