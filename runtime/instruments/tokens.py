"""The tokens between the steps: how many dimensions they fill, which subspace is nearest, how sparse they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from runtime.data.source import Batch
from runtime.inspection import token_numbers
from runtime.inspection.evenly import some
from runtime.inspection.token_numbers import Activity, Nearest, Ranks
from runtime.instruments.drawing import token_maps as pictures
from runtime.instruments.drawing.charts import charts
from runtime.instruments.drawing.matrices import falling
from runtime.instruments.section import Panel, Section, Sheet
from runtime.instruments.states import Along, along, curves, kept
from runtime.instruments.subject import Subject
from runtime.instruments.tables import tokens as tables

T = TypeVar("T", Ranks, Nearest, Activity)
NAME, TITLE = "tokens", "Tokens"
IMAGES = 4  # images whose maps are shown
LAYERS = 5  # steps whose maps, spectra and codes are shown, at equal distances along depth

RANK_TEXT = (
    "Ranks are those of the tokens of one input as a matrix, not centred, averaged over held-out inputs. The effective "
    "rank is the exponential of the entropy of the singular values over their sum (Roy and Vetterli 2007), the stable "
    "rank |Z|_F^2 / |Z|_2^2. They are taken of the tokens as they are, before the norm of the next step."
)
NEAREST_TEXT = (
    "Every token is given to the subspace k with the largest |U_k'z|^2 / |z|^2, z being the token as the step reads "
    "it, through its norm. This is the share of z inside the subspace only where U_k is orthonormal; the table says "
    "for how many tokens orthonormal bases of the same spans agree. Offsets that a step adds to U_k'z are left out. "
    "What neighbours share by chance is the sum of the squared shares of the subspaces. Random subspaces make maps as "
    "well, since patches that look alike are near to the same: compare with the initial network."
)
CODE_TEXT = (
    "An entry of a sparse code counts as zero where the proximal map made it exactly that. A feature is dead where it "
    "is zero for every token that was looked at, which more tokens may wake."
)
MASKED_TEXT = "Patches are hidden as in training; hidden ones are all the same token at first, save their positions."


@dataclass(frozen=True)
class Numbers:
    """By state; empty where a network has none."""

    ranks: Mapping[str, Sequence[Ranks]]
    nearest: Mapping[str, Sequence[Nearest]]
    activity: Mapping[str, Sequence[Activity]]


def measured(subject: Subject) -> Section:
    arguments = subject.arguments(subject.held_out)
    compilation = subject.compilation
    found = Numbers(
        kept(lambda network: token_numbers.ranks(network, arguments), subject.states),
        kept(lambda network: token_numbers.nearest(compilation, network, arguments), subject.states),
        kept(lambda network: token_numbers.activity(compilation, network, arguments), subject.states),
    )
    maps = image_maps(subject) if found.nearest else None
    shown = [*rank_panels(found), *subspace_panels(found), *(maps.panels if maps else ())]
    shown += code_panels(subject, found, arguments)
    sheets = [*sheets_of(found), *(maps.sheets if maps else ())]
    return Section(NAME, TITLE, text(subject, found), shown, sheets, list(curves(all_charts(found))))


def text(subject: Subject, found: Numbers) -> tuple[str, ...]:
    inputs = len(next(iter(found.ranks.values()))[0].effective)
    said = [f"{RANK_TEXT} Here on {inputs} of {len(subject.held_out)} inputs."]
    said += [NEAREST_TEXT] if found.nearest else []
    said += [CODE_TEXT] if found.activity else []
    said += [MASKED_TEXT] if subject.network.mask_ratio else []
    return tuple(said)


def sheets_of(found: Numbers) -> Iterator[Sheet]:
    yield from (tables.ranks(found.ranks), tables.spectra(found.ranks))
    if found.nearest:
        yield from (tables.neighbours(found.nearest), tables.shares(found.nearest))
    if found.activity:
        yield from (tables.activity(found.activity), tables.features(found.activity))


def chart(quantity: str, states: Mapping[str, Sequence[T]], value: Callable[[T], float], curve: str = "") -> Along:
    return along(quantity, states, lambda each: each.label, value, curve=curve)


def rank_charts(found: Numbers) -> list[Along]:
    """With one standard deviation over the inputs around the mean."""
    return [
        along(
            f"{quantity} after every step (mean and deviation)", found.ranks, lambda r: r.label,
            lambda r, of=of: float(of(r).mean()), lambda r, of=of: around_mean(of(r)),
            f"{quantity} of the tokens, held out",
        )
        for quantity, of in (("effective rank", lambda r: r.effective), ("stable rank", lambda r: r.stable))
    ]  # fmt: skip


def around_mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean() - values.std()), float(values.mean() + values.std())


def neighbour_charts(found: Numbers) -> list[Along]:
    if not all(each.ordered for states in found.nearest.values() for each in states):
        return []
    return [
        chart("tokens nearest to the same subspace as their right neighbour", found.nearest, lambda n: n.agreement,
              "tokens nearest to the same subspace as their right neighbour, held out"),
        chart("the same, less what chance gives", found.nearest, lambda n: n.agreement - n.chance),
    ]  # fmt: skip


def code_charts(found: Numbers) -> list[Along]:
    return [
        chart("entries of the code that are not zero", found.activity, lambda a: a.active,
              "entries of the sparse code that are not zero, held out"),
        chart("dead features", found.activity, lambda a: a.dead, "dead features of the sparse code, held out"),
    ]  # fmt: skip


def all_charts(found: Numbers) -> list[Along]:
    drawn = [*rank_charts(found), *(neighbour_charts(found) if found.nearest else ())]
    return [*drawn, *(code_charts(found) if found.activity else ())]


# ---- figures -------------------------------------------------------------------------------------------------------


def rank_panels(found: Numbers) -> Iterator[Panel]:
    caption = (
        "Ranks of the tokens along depth, at the start and after every step; names stand at each layer's first step."
    )
    yield Panel("ranks", caption, charts([each.chart for each in rank_charts(found)]))
    lines = {
        state: {each.label.replace(".", " ").replace("_", " "): each.spectrum for each in some(values, LAYERS)}
        for state, values in found.ranks.items()
    }
    caption = "Singular values of the tokens over the largest, mean over the inputs."
    yield Panel("spectra", caption, falling(lines, "rank", "singular value over the largest", True))


def subspace_panels(found: Numbers) -> Iterator[Panel]:
    if not found.nearest:
        return
    if drawn := neighbour_charts(found):
        yield Panel(
            "neighbours", "Tokens and their right neighbours, along depth.", charts([each.chart for each in drawn])
        )
    rows = {state: {each.label: each.shares for each in values} for state, values in found.nearest.items()}
    yield Panel("subspace-shares", "The share of tokens that is nearest to each subspace.", pictures.shares(rows))


def code_panels(subject: Subject, found: Numbers, arguments: Sequence[Tensor]) -> Iterator[Panel]:
    if not found.activity:
        return
    yield Panel("codes-along-depth", "Sparse codes along depth.", charts([each.chart for each in code_charts(found)]))
    lines = {
        state: {each.label.replace(".", " "): np.sort(each.shares)[::-1] for each in some(values, LAYERS)}
        for state, values in found.activity.items()
    }
    caption = "For which share of the tokens a feature is not zero, features in falling order."
    yield Panel("feature-activity", caption, falling(lines, "feature, in falling order", "share of tokens", False))
    states = {
        state: codes_shown(token_numbers.codes(subject.compilation, network, arguments))
        for state, network in subject.states.items()
    }
    caption = (
        f"Sparse codes of the first held-out input: at most {pictures.FEATURES} features at equal distances by the "
        f"first {pictures.TOKENS} tokens. White is zero."
    )
    yield Panel("codes", caption, pictures.codes(states))


def codes_shown(codes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A few of them along depth, no more than stand beside each other."""
    return {name: codes[name] for name in some(codes, LAYERS)[:: 1 if len(codes) < LAYERS else 2] or codes}


# ---- maps on images ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Maps:
    panels: list[Panel]
    sheets: list[Sheet]


def image_maps(subject: Subject) -> Maps | None:
    """Nearest subspaces of every patch of a few images, the user's own first; None for networks of other inputs."""
    if subject.network.input != "image":
        return None
    names, batch = images_of(subject)
    arguments = subject.arguments(batch)
    found = {
        state: some(token_numbers.nearest(subject.compilation, network, arguments), LAYERS)
        for state, network in subject.states.items()
    }
    seen = subject.recipe.data.displayed(visible(subject.network, batch.inputs, arguments)).float().cpu()
    panels = []
    for state, steps in found.items():
        rows = [{each.label: each.maps[image] for each in steps} for image in range(len(names))]
        caption = f"The nearest subspace of every patch, as numbers and colours, {state} network."
        drawn = pictures.maps(seen, names, rows, max(each.count for each in steps))
        panels.append(Panel(f"maps-{state}", caption, drawn))
    return Maps(panels, [tables.maps(found, names)])


def images_of(subject: Subject) -> tuple[list[str], Batch]:
    device = subject.held_out.inputs.device
    own = subject.shown[:IMAGES]
    count = min(IMAGES - len(own), len(subject.held_out))
    places = [number * len(subject.held_out) // count for number in range(count)]
    images = [each.image.to(device) for each in own] + [subject.held_out.inputs[place] for place in places]
    names = [each.name for each in own] + [f"held out {subject.numbers[place]}" for place in places]
    return names, Batch(torch.stack(images))


@torch.no_grad()
def visible(network: nn.Module, images: Tensor, arguments: Sequence[Tensor]) -> Tensor:
    """The images as they are, with what is hidden from a masked network taken out of them."""
    if not network.mask_ratio:
        return images
    _, hidden = network(*arguments)
    return network.unpatchify(network.patchify(images) * (1 - hidden.unsqueeze(-1)))
