"""Attention and segmentation: what heads look at, and whether objects emerge in it.

After Yu, Chu, Tong, Wu, Pai, Buchanan and Ma, "Emergence of Segmentation with Minimalistic White-Box Transformers"
(arXiv 2308.16271).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from crate_dsl import Compilation
from runtime.errors import Inapplicable
from runtime.inspection import segmentation
from runtime.inspection.class_maps import FUSED, StepMaps, grid_of, layers_of, projections, step_maps
from runtime.inspection.workload import affordable
from runtime.instruments.drawing import attention as drawing
from runtime.instruments.drawing.attention import Look, Objects
from runtime.instruments.overlaps import Overlaps, image_sheet, miou_sheet, overlaps
from runtime.instruments.scenes import GIVEN, HELD_OUT, Group, groups, with_masks
from runtime.instruments.section import Curve, Section, Sheet
from runtime.instruments.subject import Subject
from runtime.probing.features import unmasked

NAME, TITLE = "attention", "Attention and segmentation"
COLOURED = 3  # components after the first that become colours
PASSES = 4  # that an image goes through the network for its numbers
MOST_DERIVED = 8  # images that derived maps are measured on: they are made in float64, one by one


def measured(subject: Subject) -> Section:
    """Class-token maps, components and object masks of some images; mIoU where there are masks."""
    if subject.network.input != "image":
        raise Inapplicable("its inputs are no images")
    network = unmasked(subject.network)
    looks = [looked(subject.compilation, network, group) for group in groups(subject)]
    most = most_images(subject, looks[0])
    whole = step_maps(subject.compilation, network, subject.held_out.images[:most])
    masked = list(overlaps_of(subject, network, whole, most))
    source = subject.recipe.data
    panels = [drawing.maps(looks, source, back) for back in (1, 2) if len(whole) >= back]
    panels += [drawing.depth(looks, source)] if len(whole) > 1 else []
    panels += [drawing.objects(looks, source)] if looks[0].objects else []
    panels += [drawing.overlaps(each) for each in masked]
    sheets = [heads_sheet(whole, masked), *([miou_sheet(masked), image_sheet(masked)] if masked else [])]
    return Section(NAME, TITLE, tuple(text(subject, looks, whole)), panels, sheets, list(curves(whole, masked)))


def most_images(subject: Subject, look: Look) -> int:
    """How many images numbers are taken of: few where a map is made from its formula."""
    fused = all(each.kind == FUSED for each in look.steps.values())
    return affordable(subject.compilation, PASSES, len(subject.held_out)) if fused else MOST_DERIVED


def overlaps_of(subject: Subject, network: nn.Module, whole: Mapping[str, StepMaps], most: int) -> Iterator[Overlaps]:
    """Of the held-out images, whose maps `whole` are, and of the user's pictures, where there are masks."""
    for each in with_masks(subject):
        own = each.name == HELD_OUT
        found = whole if own else step_maps(subject.compilation, network, each.images[:most])
        yield overlaps(subject.compilation, network, each, found, subject.recipe.seed)


# ---- images that are shown -----------------------------------------------------------------------------------------


def looked(compilation: Compilation, network: nn.Module, group: Group) -> Look:
    """The maps of all steps, and what the last projections show, of the images of one group together."""
    steps = step_maps(compilation, network, group.images)
    found = list(projections(compilation, network, group.images))
    last = (found[-1][0].name, *segmented(found[-1][1], grid_of(network))) if found else None
    return Look(group.names, group.images, group.masks, steps, Objects(*last) if last else None)


def segmented(values: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[list[np.ndarray]]]:
    """First component (images, rows, columns), colours of the foreground (..., 3) in [0, 1], objects of every image.

    `values` (images, patches, features) are projections. Colours are the next three components of all patches, each
    scaled over the foreground, where the first one is above its mean; the rest is white.
    """
    found = segmentation.components(values.reshape(-1, values.shape[-1]), 1 + COLOURED)
    found = np.pad(found, ((0, 0), (0, 1 + COLOURED - found.shape[1]))).reshape(len(values), *grid, 1 + COLOURED)
    first, rest = found[..., 0], found[..., 1:]
    colours, inside = np.ones(rest.shape), first > 0
    if inside.any():
        low, high = rest[inside].min(axis=0), rest[inside].max(axis=0)
        colours[inside] = (rest[inside] - low) / np.where(high > low, high - low, 1)
    return first, colours, [segmentation.mask_cut(segmentation.affinity(each), grid) for each in values]


# ---- numbers -------------------------------------------------------------------------------------------------------


def held(maps: Tensor) -> Tensor:
    """The share of the patches that holds 60 % of a map's mass, (images, heads)."""
    return segmentation.top_mass(maps).double().mean(dim=(-2, -1))


def heads_sheet(whole: Mapping[str, StepMaps], masked: Sequence[Overlaps]) -> Sheet:
    """Every head of every step on the held-out images."""
    own = next((each.heads for each in masked if each.name == HELD_OUT), {})
    rows = []
    for step, each in whole.items():
        shares = held(each.maps)
        ious = own[step].mean(dim=0).tolist() if step in own else [None] * shares.shape[1]
        for head, (share, spread, value) in enumerate(
            zip(shares.mean(0).tolist(), shares.std(0, correction=0).tolist(), ious, strict=True)
        ):
            rows.append((step, head, len(shares), share, spread, value))
    columns = ("step", "head", "images", "patches that hold 60 %", "standard deviation", "mean IoU")
    caption = "Every head, held out: the share of the patches that holds 60 % of its map's mass; 0.6 where it is even."
    return Sheet("heads", caption, columns, rows)


def curves(whole: Mapping[str, StepMaps], masked: Sequence[Overlaps]) -> Iterator[Curve]:
    shares = {step: held(each.maps).mean(dim=1) for step, each in whole.items()}
    yield curve("share of patches that hold 60 % of a class map's mass, mean over heads, held out", shares)
    for each in masked:
        name = each.name if each.name == HELD_OUT else "pictures of the user"
        best = {step: values.amax(dim=1) for step, values in each.heads.items()}
        yield curve(f"coarse mIoU of the best head, {name}", best)
        if each.cuts:
            yield curve(f"mIoU of the best object of normalised cuts, {name}", each.cuts)


def curve(quantity: str, values: Mapping[str, Tensor]) -> Curve:
    """Means over the images, (images,) by step, over layers, with their standard deviations."""
    means = tuple(float(each.double().mean()) for each in values.values())
    spreads = tuple(float(each.double().std(correction=0)) for each in values.values())
    return Curve(quantity, tuple(layers_of(values)), means, spreads)


# ---- words ---------------------------------------------------------------------------------------------------------


def text(subject: Subject, looks: Sequence[Look], whole: Mapping[str, StepMaps]) -> Iterator[str]:
    kinds = list(dict.fromkeys((each.kind, each.queries) for each in whole.values()))
    for kind, queries in kinds:
        yield f"A map is how much {queries} take{'' if queries.startswith('all') else 's'} of every patch: {kind}."
    if any(queries.startswith("all") for _, queries in kinds):
        yield "Without a class token the paper's map of it is replaced by the mean over all tokens."
    count = len(next(iter(whole.values())).maps)
    yield (
        "The paper shows the last step but one; here are the last two, and all steps by the mean of their heads. "
        f"Numbers are of {count} held-out images."
    )
    if looks[0].objects:
        yield (
            f"Components are those of the projections U[k]' z at {looks[0].objects.step}, all heads together, over all "
            "patches of the images of one kind. Where the first one is above its mean, there is foreground; its sign "
            "means nothing and is chosen so that the foreground is the smaller side (the paper sets its threshold by "
            "hand). The next three are the colours of the foreground: like colours are like projections."
        )
        yield (
            "Objects are cut as MaskCut does: cosines of the same projections, linked above "
            f"{segmentation.TAU}, cut at the second generalised eigenvector, at most {segmentation.OBJECTS} times, "
            "without its conditional random field."
        )
    if len(subject.shown) > GIVEN:
        yield f"The first {GIVEN} of {len(subject.shown)} pictures are shown; all of those with masks are measured."
    if subject.masks is None and not any(each.mask is not None for each in subject.shown):
        yield "The data have no masks, so no mIoU is given."
