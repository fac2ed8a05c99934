"""Compression and sparsity along depth: the figure of the papers, in the convention of the papers and of the plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.errors import Inapplicable
from runtime.inspection.descent import states_before
from runtime.inspection.places import Place, places
from runtime.inspection.rates import (
    EPSILON,
    PLOTTED,
    as_plotted,
    as_stated,
    by_own_formula,
    family_of,
    leaves_a_code,
    share_of_nonzeros,
)
from runtime.inspection.workload import affordable
from runtime.instruments.drawing.charts import Chart, Line, around, charts
from runtime.instruments.section import Cell, Curve, Panel, Section, Sheet
from runtime.instruments.subject import Subject

NAME, TITLE = "rates", "Compression and sparsity"
PASSES = 4  # what the rates of one input cost, in forward passes of the network; measured on CRATE with 197 tokens
WEIGHT = 0.1  # lambda of the shipped encoders, where a spec names none
FIELDS = ("plotted", "stated", "compressed", "whole", "nonzeros", "objective")  # in the order of figures and tables


def title(field: str, weight: float) -> str:
    """What figures, tables and curves call a field; with lambda in it, since objectives differ with lambda."""
    return {
        "plotted": f"R^c as officially plotted (eps {PLOTTED:g} for eps^2), nats",
        "stated": "R^c of the tokens as they are, by the spec's own formula, nats",
        "compressed": f"R^c of the tokens as they are (eps {EPSILON:g}), nats",
        "whole": f"R of the tokens as they are (eps {EPSILON:g}), nats",
        "nonzeros": "share of non-zero entries",
        "objective": f"sparse rate reduction R - R^c - {weight:g} |Z|_0 (eps {EPSILON:g}), nats",
    }[field]


@dataclass(frozen=True)
class Layer:
    """What is measured at one layer, (batch,) each; `place` is the step that compresses, `last` that which ends it.

    `stated` is None where the spec states another energy than a coding rate.
    """

    place: Place
    last: Place
    plotted: Tensor
    stated: Tensor | None
    compressed: Tensor
    whole: Tensor
    nonzeros: Tensor
    objective: Tensor


Found = Mapping[tuple[str, str], list[Layer]]  # by state and split


def measured(subject: Subject) -> Section:
    """Coding rates and non-zero entries of every layer that has subspaces."""
    most = max(len(subject.held_out), len(subject.train))
    subject = subject.fewer(affordable(subject.compilation, 2 * PASSES * len(subject.states), most))  # two splits
    found = {
        (state, split): list(layers(subject, state, split))
        for state in subject.states
        for split in ("held out", "training")
    }
    if not any(found.values()):
        raise Inapplicable("no step of this network projects its tokens onto subspaces")
    weight = weight_of(subject)
    said = (
        f"Of each split {len(subject.held_out)} inputs are put through it.",
        *text(weight),
        *text_of(subject, next(iter(found.values()))),
    )
    return Section(NAME, TITLE, said, [panel(found, weight)], [sheet(found, weight)], list(curves(found, weight)))


@torch.no_grad()
def layers(subject: Subject, state: str, split: str) -> Iterator[Layer]:
    """Every layer of every block with a family of subspaces, its first such step."""
    network, batch = subject.states[state], subject.held_out if split == "held out" else subject.train
    features = network.features(*subject.arguments(batch))
    steps = list(states_before(features, places(subject.compilation, network)))
    last = {layer_of(place): place for place, _ in steps}
    seen = set()
    for place, tokens in steps:
        family = family_of(place)
        if family is None or layer_of(place) in seen:
            continue
        seen.add(layer_of(place))
        end = last[layer_of(place)]
        leaving = features[end.name]
        nonzeros, rates = share_of_nonzeros(leaving), as_stated(leaving, family)
        objective = rates.whole - rates.compressed - weight_of(subject) * nonzeros * leaving[0].numel()
        plotted, stated = as_plotted(place.read(tokens), family), by_own_formula(place, leaving)
        yield Layer(place, end, plotted, stated, rates.compressed, rates.whole, nonzeros, objective)


def layer_of(place: Place) -> str:
    return f"{place.block.role}.{place.layer}"


def weight_of(subject: Subject) -> float:
    return float(subject.compilation.model.reals.get("lambda", WEIGHT))


def values_of(found: list[Layer], field: str) -> list[Tensor] | None:
    """Of every layer; None where one of them has nothing of the kind."""
    values = [getattr(layer, field) for layer in found]
    return None if any(value is None for value in values) else values


# ---- text ----------------------------------------------------------------------------------------------------------


def text(weight: float) -> tuple[str, ...]:
    return (
        "As officially plotted (vis_utils/coding_rate.py): the tokens that the compress step reads, after its norm, "
        "projected onto its subspaces; every projection is scaled to length 1, and eps stands where the formula has "
        "eps^2. What is compared is therefore direction alone. Deviations divide by the number of inputs, those of the "
        "official plots by one less.",
        "As they are: the tokens that leave the layer, with the same subspaces, neither normed nor scaled; R is their "
        f"rate as a whole. With eps^2 = {EPSILON**2:g} networks can be compared; the formula of the spec has its own "
        "constants, and differs from spec to spec. The sparse rate reduction R - R^c - lambda |Z|_0 is the objective "
        f"that a network of this family is meant to raise (Yu et al. 2023), here with lambda = {weight:g}.",
        "Subspaces differ from layer to layer, so that a rate may rise from one layer to the next although every step "
        "lowers its own; the energies above compare before and after within a step.",
    )


def text_of(subject: Subject, found: list[Layer]) -> Iterator[str]:
    """What has to be known of this network to read its numbers."""
    if "lambda" not in subject.compilation.model.reals:
        yield f"This spec names no lambda: {WEIGHT:g} is that of the shipped encoders."
    for role in dict.fromkeys(layer.place.block.role for layer in found):
        last = next(layer.last for layer in found if layer.place.block.role == role)
        if not leaves_a_code(last):
            yield (
                f"What leaves a layer of the {role}, after {last.derived.step.label}, is not a sparse code itself: "
                "nothing sets its entries to zero."
            )
    if values_of(found, "stated") is None:
        energy = next(layer.place.derived.step.energy.name for layer in found if layer.stated is None)
        yield f"There is no rate by the spec's own formula: its energy {energy} is not a coding rate."


# ---- figure, table and curves --------------------------------------------------------------------------------------


def panel(found: Found, weight: float) -> Panel:
    """One axis per quantity; held out and training, as trained and as initialised."""
    first = next(iter(found.values()))
    drawn = [
        Chart(
            title(field, weight), names(first), lines(found, field), "share" if field == "nonzeros" else "nats", "layer"
        )
        for field in FIELDS
        if values_of(first, field)
    ]
    caption = "Means over the inputs of every split; bands are one standard deviation over the held-out inputs."
    return Panel("rates", caption, charts(drawn))


def lines(found: Found, field: str) -> list[Line]:
    states = list(dict.fromkeys(state for state, _ in found))
    drawn = []
    for (state, split), layers_found in found.items():
        values = values_of(layers_found, field) or []
        held_out = split == "held out"
        band = around(means(values), deviations(values)) if held_out else None
        colour = states.index(state)
        drawn.append(Line(f"{state}, {split}", means(values), band, colour=colour, dash=0 if held_out else 1))
    return drawn


def names(found: list[Layer]) -> list[str]:
    """`0`, `1`, ... of a network with one block, else `encoder 0`, `decoder 0`."""
    roles = {layer.place.block.role for layer in found}
    return [
        str(layer.place.layer) if len(roles) == 1 else f"{layer.place.block.role} {layer.place.layer}"
        for layer in found
    ]


def sheet(found: Found, weight: float) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for (state, split), layers_found in found.items():
        for layer in layers_found:
            for field in FIELDS:
                if (value := getattr(layer, field)) is not None:
                    where = (layer.place.block.role, layer.place.layer, state, split)
                    rows.append((title(field, weight), *where, *means([value]), *deviations([value])))
    caption = "Coding rates and non-zero entries of every layer, means and standard deviations over the inputs."
    return Sheet("rates", caption, ("quantity", "block", "layer", "network", "split", "mean", "deviation"), rows)


def curves(found: Found, weight: float) -> Iterator[Curve]:
    """Every quantity by layer, held out, of the network as trained."""
    layers_found = next(iter(found.values()))
    for field in FIELDS:
        if values := values_of(layers_found, field):
            labels, spread = tuple(names(layers_found)), tuple(deviations(values))
            yield Curve(f"{title(field, weight)}, held out", labels, tuple(means(values)), spread)


def means(values: list[Tensor]) -> list[float]:
    return [float(value.mean()) for value in values]


def deviations(values: list[Tensor]) -> list[float]:
    """0 for one input."""
    return [float(value.std(correction=0)) for value in values]
