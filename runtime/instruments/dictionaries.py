"""The learned matrices: how far the subspaces and the dictionaries are from what the derivation assumes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from torch import Tensor

from runtime.errors import Inapplicable
from runtime.inspection.evenly import some
from runtime.inspection.filters import patch_filters, strongest
from runtime.inspection.geometry import Atoms, Family, Outer, dictionaries, families, outers
from runtime.inspection.subspaces import cosines_of_columns
from runtime.instruments.drawing import matrices as pictures
from runtime.instruments.drawing.charts import charts, short
from runtime.instruments.section import Panel, Section, Sheet
from runtime.instruments.states import Along, along, curves, kept
from runtime.instruments.subject import Subject
from runtime.instruments.tables import geometry as tables

T = TypeVar("T")
NAME, TITLE = "dictionaries", "Subspaces and dictionaries"
SHOWN = 4  # layers whose matrices are shown as pictures, at equal distances along depth
FILTERS = 32  # features whose patch filters are shown

READING = (
    "Every family U of K subspaces and every dictionary D, of the trained network and of the initial one. Where the "
    "derivation takes a family to be orthonormal and complete, these are the distances from that: of U_k'U_k from the "
    "identity, of sum_k U_k U_k' from the identity, and of the matrices that were freed from those in whose place they "
    "stand. Distances are in Frobenius norms and, up to scale, from the nearest multiple c of the identity: they are "
    "then the standard deviation of the squared singular values over their mean, 0 for orthonormal columns of any one "
    "length.",
    "Principal angles are those between the spans, whatever their bases: 90 degrees everywhere is what incoherent "
    "subspaces have, and random ones of p in d dimensions have angles well below it. Gains of the norms that stand "
    "before the steps are no part of the matrices here.",
)
STEPS = (
    "A proximal step of size eta is a step of ISTA on the stated energy. With L, the Lipschitz constant of the smooth "
    "part's gradient (|D|^2 for 1/2 |X - D A|^2, by the largest singular value), a step of at most 1/L minimises a "
    "majorant, and none of at most 2/L raises the energy (Beck and Teboulle 2009). Beyond 2/L there is no such "
    "guarantee, though a step may still lower the energy of given tokens. Where the code is to be nonnegative and the "
    "step starts from tokens that are not, the guarantee begins with the first iterate, which is: of the one step of "
    "CRATE the bound alone says nothing about the energy without that constraint."
)


@dataclass(frozen=True)
class Measures:
    """By state; empty where a network has none."""

    families: Mapping[str, Sequence[Family]]
    outers: Mapping[str, Sequence[Outer]]
    atoms: Mapping[str, Sequence[Atoms]]


def measured(subject: Subject) -> Section:
    """Raises Inapplicable for networks without learned subspaces or dictionaries."""
    found = numbers(subject)
    if not (found.families or found.atoms or found.outers):
        raise Inapplicable("no step of this network has learned subspaces or a dictionary")
    text = (*READING, STEPS) if with_bounds(found.atoms) else READING
    return Section(
        NAME,
        TITLE,
        text,
        list(panels(subject, found)),
        sheets(found),
        list(curves([*subspace_charts(found), *dictionary_charts(found)])),
    )


def numbers(subject: Subject) -> Measures:
    states, compilation, initial = subject.states, subject.compilation, subject.origin
    return Measures(
        kept(lambda network: list(families(compilation, network)), states),
        kept(lambda network: list(outers(compilation, network)), states),
        kept(
            lambda network: list(dictionaries(compilation, network, initial if network is not initial else None)),
            states,
        ),
    )


def where(states: Mapping[str, Sequence[T]], chosen: Callable[[T], bool]) -> dict[str, list[T]]:
    """Those that are chosen, without states that then have nothing."""
    found = {state: [each for each in values if chosen(each)] for state, values in states.items()}
    return {state: values for state, values in found.items() if values}


def with_bounds(atoms: Mapping[str, Sequence[Atoms]]) -> dict[str, list[Atoms]]:
    """Those whose step has a size and a bound."""
    return where(atoms, lambda each: each.over_bound is not None)


def sheets(found: Measures) -> list[Sheet]:
    made = []
    if found.families:
        made += [tables.layers(found.families), tables.members(found.families), tables.pairs(found.families)]
    if found.outers:
        made.append(tables.freed(found.outers))
    if found.atoms:
        made += [tables.dictionaries(found.atoms), tables.steps(found.atoms), tables.singular_values(found.atoms)]
    return [sheet for sheet in made if sheet.rows]


# ---- along depth ---------------------------------------------------------------------------------------------------


def chart(
    quantity: str,
    states: Mapping[str, Sequence[T]],
    value: Callable[[T], float],
    several: Callable[[T], Sequence[float]] | None = None,
    **look: object,
) -> Along:
    """One number of every record along depth, with the range of several where they have them."""
    band = None if several is None else lambda each: (min(several(each)), max(several(each)))
    return along(quantity, states, lambda each: each.at.label, value, band, **look)


def subspace_charts(found: Measures) -> list[Along]:
    several = where(found.families, lambda family: bool(family.angles.pairs))
    outer = where(found.outers, lambda each: bool(each.members))
    made = []
    if found.families:
        made += [
            chart("bases from orthonormal, up to scale (mean and range over k)", found.families,
                  lambda f: float(np.mean(f.scaled)), lambda f: f.scaled,
                  curve="U_k'U_k from the identity, up to scale"),
            chart("sum_k U_k U_k' from the identity, up to scale", found.families, lambda f: f.frame.scaled,
                  curve="sum_k U_k U_k' from the identity, up to scale"),
        ]  # fmt: skip
    if several:
        made += [
            chart("smallest principal angle of two subspaces, degrees", several, lambda f: f.smallest,
                  curve="smallest principal angle between subspaces, degrees"),
            chart("mean principal angle of two subspaces, degrees", several, lambda f: f.mean,
                  curve="mean principal angle between subspaces, degrees"),
        ]  # fmt: skip
    if outer:
        made += [
            chart("cosine of the freed outer family and U (all, and range over k)", outer, lambda o: o.whole.cosine,
                  lambda o: [m.cosine for m in o.members], curve="cosine of the freed outer family and U"),
            chart("mean angle between the spans of freed and inner subspaces, degrees", outer,
                  lambda o: float(np.mean(o.angles)), lambda o: o.angles),
        ]  # fmt: skip
    return made


def dictionary_charts(found: Measures) -> list[Along]:
    if not found.atoms:
        return []
    least = next(iter(found.atoms.values()))[0].numbers.welch
    made = [
        chart("condition number of D", found.atoms, lambda a: a.numbers.condition, logarithmic=True,
              curve="condition number of D"),
        chart("coherence of D: largest |cosine| of two atoms", found.atoms, lambda a: a.numbers.coherence,
              curve="coherence of D", references={f"Welch bound {least:.2g}": least} if least else {}),
        chart("D from orthogonality (or a tight frame), up to scale", found.atoms, lambda a: a.numbers.tightness,
              curve="D from orthogonality, up to scale"),
    ]  # fmt: skip
    if bounded := with_bounds(found.atoms):
        made.append(chart("step size times L", bounded, lambda a: a.over_bound, logarithmic=True,
                          references={"eta = 1/L": 1.0, "eta = 2/L": 2.0},
                          curve="step size of sparse coding times its Lipschitz constant"))  # fmt: skip
    return made


# ---- figures -------------------------------------------------------------------------------------------------------


def panels(subject: Subject, found: Measures) -> Iterator[Panel]:
    if all_of_them := subspace_charts(found):
        caption = "Subspaces along depth; shaded: from the least to the greatest of the K members."
        yield Panel("subspaces", caption, charts([each.chart for each in all_of_them]))
    several = where(found.families, lambda family: bool(family.angles.pairs))
    if shown := {state: some(each, SHOWN) for state, each in several.items()}:
        yield angle_panel(shown)
        yield cosine_panel(shown)
    if all_of_them := dictionary_charts(found):
        yield Panel("dictionaries", "Dictionaries along depth.", charts([each.chart for each in all_of_them]))
        yield spectrum_panel(found.atoms)
    if (filters := filter_panel(subject)) is not None:
        yield filters


def angle_panel(shown: Mapping[str, Sequence[Family]]) -> Panel:
    grid = {state: {each.at.label: lower_and_upper(each) for each in found} for state, found in shown.items()}
    caption = "Principal angles between subspaces i and j: below the diagonal the smallest, above it the mean."
    return Panel("angles", caption, pictures.angles(grid))


def lower_and_upper(family: Family) -> np.ndarray:
    mixed = np.tril(np.nan_to_num(family.angles.smallest)) + np.triu(np.nan_to_num(family.angles.mean))
    np.fill_diagonal(mixed, np.nan)
    return mixed


def cosine_panel(shown: Mapping[str, Sequence[Family]]) -> Panel:
    members = len(next(iter(shown.values()))[0].members)
    grid = {
        state: {each.at.label: cosines_of_columns(each.at.value) for each in found} for state, found in shown.items()
    }
    caption = (
        "|cosine| of every two columns of [U_1, ..., U_K], as Yu et al. 2023 show them: the blocks on the diagonal are "
        "the subspaces, dark beside them where two subspaces are incoherent."
    )
    return Panel("columns", caption, pictures.cosines(grid, members))


def spectrum_panel(atoms: Mapping[str, Sequence[Atoms]]) -> Panel:
    lines = {
        state: {short(each.at.label): each.numbers.values for each in some(found, SHOWN)}
        for state, found in atoms.items()
    }
    return Panel("singular-values", "Singular values of D.", pictures.falling(lines, "rank", "singular value", True))


def filter_panel(subject: Subject) -> Panel | None:
    """What features of the patch embedding look for; None where the network does not embed patches linearly."""
    states: dict[str, Tensor] = {}
    for state, network in subject.states.items():
        found = patch_filters(network)
        if found is None:
            return None
        states[state] = found
    features = strongest(next(iter(states.values())), FILTERS)
    shown = {state: images[features] for state, images in states.items()}
    caption = (
        f"Filters of the patch embedding: of the {len(features)} features with the largest weights, by their numbers, "
        "each scaled by its own largest weight. Orange is negative, violet positive; of "
        "three channels the colours are around grey."
    )
    return Panel("patch-filters", caption, pictures.filters(shown, features))
