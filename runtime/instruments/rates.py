"""Compression and sparsity along depth: the figure of the papers, in the convention of the papers and of the plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.errors import Inapplicable
from runtime.inspection.descent import states_before
from runtime.inspection.places import Place, places
from runtime.inspection.rates import EPSILON, PLOTTED, as_plotted, as_stated, family_of, share_of_nonzeros
from runtime.instruments.drawing.charts import Chart, Line, charts
from runtime.instruments.section import Curve, Panel, Section, Sheet
from runtime.instruments.subject import Subject

NAME, TITLE = "rates", "Compression and sparsity"
WEIGHT = 0.1  # of the number of non-zero entries, where the spec names no lambda
QUANTITIES = {  # by the names of their fields, as figures and tables call them
    "plotted": f"R^c as officially plotted (eps {PLOTTED:g} for eps^2), nats",
    "compressed": f"R^c of the tokens as they are (eps {EPSILON:g}), nats",
    "whole": f"R of the tokens as they are (eps {EPSILON:g}), nats",
    "nonzeros": "share of non-zero entries",
    "objective": "sparse rate reduction R - R^c - lambda |Z|_0, nats",
}


@dataclass(frozen=True)
class Layer:
    """What is measured at one layer, (batch,) each; `place` is the step that compresses."""

    place: Place
    plotted: Tensor
    compressed: Tensor
    whole: Tensor
    nonzeros: Tensor
    objective: Tensor


Found = Mapping[tuple[str, str], list[Layer]]  # by state and split


def measured(subject: Subject) -> Section:
    """Coding rates and non-zero entries of every layer that has subspaces."""
    found = {
        (state, split): list(layers(subject, state, split))
        for state in subject.states
        for split in ("held out", "training")
    }
    if not any(found.values()):
        raise Inapplicable("no step of this network projects its tokens onto subspaces")
    return Section(NAME, TITLE, text(subject), [panel(found)], [sheet(found)], list(curves(found)))


@torch.no_grad()
def layers(subject: Subject, state: str, split: str) -> Iterator[Layer]:
    """Every layer of every block with a family of subspaces, its first such step."""
    network, batch = subject.states[state], subject.held_out if split == "held out" else subject.train
    features = network.features(*subject.arguments(batch))
    seen = set()
    for place, tokens in states_before(features, places(subject.compilation, network)):
        layer = place.name.rsplit(".", 1)[0]
        family = family_of(place)
        if family is None or layer in seen:
            continue
        seen.add(layer)
        leaving = list(value for name, value in features.items() if name.rsplit(".", 1)[0] == layer)[-1]
        nonzeros, rates = share_of_nonzeros(leaving), as_stated(leaving, family)
        count = nonzeros * leaving[0].numel()
        objective = rates.whole - rates.compressed - weight(subject) * count
        plotted = as_plotted(place.read(tokens), family)
        yield Layer(place, plotted, rates.compressed, rates.whole, nonzeros, objective)


def weight(subject: Subject) -> float:
    return float(subject.compilation.model.reals.get("lambda", WEIGHT))


def text(subject: Subject) -> tuple[str, ...]:
    return (
        "As officially plotted (vis_utils/coding_rate.py): the tokens that the compress step reads, after its norm, "
        "projected onto its subspaces; every projection is scaled to length 1, and eps stands where the formula has "
        "eps^2. What is compared is therefore direction alone.",
        f"As they are: the tokens that leave the layer, with the same subspaces and eps^2 = {EPSILON**2:g}, neither "
        "normed nor scaled; R is their rate as a whole. In the sparse rate reduction lambda is "
        f"{weight(subject):g}; it is the objective that a network of this family is meant to raise (Yu et al. 2023).",
        "Subspaces differ from layer to layer, so that a rate may rise from one layer to the next although every step "
        "lowers its own; the energies above compare before and after within a step.",
    )


def panel(found: Found) -> Panel:
    """One axis per quantity; held out and training, as trained and as initialised."""
    drawn = []
    states = list(dict.fromkeys(state for state, _ in found))
    for field, title in QUANTITIES.items():
        lines = []
        for (state, split), layers_found in found.items():
            values = [getattr(layer, field) for layer in layers_found]
            shown = [float(value.std(correction=0)) for value in values] if split == "held out" else None
            means = [float(value.mean()) for value in values]
            colour = states.index(state)
            lines.append(Line(f"{state}, {split}", means, shown, dashed=split == "training", colour=colour))
        first = next(iter(found.values()))
        unit = "share" if field == "nonzeros" else "nats"
        drawn.append(Chart(title, unit, names(first), lines))
    caption = "Means over the inputs of every split; bands are one standard deviation over the held-out inputs."
    return Panel("rates", caption, charts(drawn))


def names(found: list[Layer]) -> list[str]:
    """`0`, `1`, ... of a network with one block, else `encoder 0`, `decoder 0`."""
    roles = {layer.place.block.role for layer in found}
    return [
        str(layer.place.layer) if len(roles) == 1 else f"{layer.place.block.role} {layer.place.layer}"
        for layer in found
    ]


def sheet(found: Found) -> Sheet:
    rows = []
    for (state, split), layers_found in found.items():
        for layer in layers_found:
            for field, title in QUANTITIES.items():
                value = getattr(layer, field)
                where = (layer.place.block.role, layer.place.layer, state, split)
                rows.append((title, *where, float(value.mean()), float(value.std(correction=0))))
    caption = "Coding rates and non-zero entries of every layer, means and standard deviations over the inputs."
    return Sheet("rates", caption, ("quantity", "block", "layer", "network", "split", "mean", "deviation"), rows)


def curves(found: Found) -> Iterator[Curve]:
    (state, _), layers_found = next(iter(found.items()))
    for field, title in QUANTITIES.items():
        values = [getattr(layer, field) for layer in layers_found]
        means = tuple(float(value.mean()) for value in values)
        spread = tuple(float(value.std(correction=0)) for value in values)
        yield Curve(f"{title}, held out", tuple(names(layers_found)), means, spread)
