"""Attention and segmentation: what heads look at, and whether objects emerge in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from runtime import seeds
from runtime.errors import Inapplicable
from runtime.inspection import segmentation
from runtime.inspection.attention import attention_maps
from runtime.instruments.drawing import attention as drawing
from runtime.instruments.looking import Look, grid_of, in_encoder, looked, scene_of
from runtime.instruments.section import Curve, Section, Sheet
from runtime.instruments.subject import Subject
from runtime.probing.features import unmasked

NAME, TITLE = "attention", "Attention and segmentation"
RANDOM = "random maps"
CHANCES = 10  # random maps that the baseline averages over


def measured(subject: Subject) -> Section:
    """Class-token maps, components and object masks of some images; mIoU where the data have masks."""
    if subject.network.input != "image":
        raise Inapplicable("its inputs are no images")
    scene = scene_of(subject)
    look = looked(subject, scene)
    panels = [drawing.maps(look, subject.recipe.data)]
    panels += [drawing.objects(look, subject.recipe.data)] if look.first is not None else []
    ious = overlaps(subject)
    panels += [drawing.overlaps(ious)] if ious else []
    sheets = [overlap_sheet(ious, subject)] if ious else []
    sheets += [shown_sheet(look)] if scene.masks else []
    return Section(NAME, TITLE, text(subject, look, ious), panels, sheets, list(curves(ious)))


# ---- beside masks --------------------------------------------------------------------------------------------------


@torch.no_grad()
def overlaps(subject: Subject) -> dict[str, Tensor]:
    """By step of the encoder: the IoU of every head's map with the held-out masks, (images, heads).

    Beside them that of random maps, as many as there are heads. Empty without masks or without fused attention.
    """
    if subject.masks is None:
        return {}
    network = unmasked(subject.network)
    try:
        found = attention_maps(network, subject.held_out.images)
    except Inapplicable:
        return {}
    grid = grid_of(network)
    ious = {
        name: segmentation.coarse_ious(segmentation.class_maps(weights, grid), subject.masks).cpu()
        for name, weights in found.items()
        if in_encoder(name)
    }
    heads = next(iter(ious.values())).shape[1]
    generator = seeds.torch_generator(subject.recipe.seed)
    chances = torch.rand(CHANCES, len(subject.masks), heads, *grid, generator=generator).to(subject.masks.device)
    ious[RANDOM] = torch.stack([segmentation.coarse_ious(each, subject.masks) for each in chances]).mean(0).cpu()
    return ious


def best_heads(ious: Tensor) -> float:
    """The coarse mIoU: of every image the best head, averaged over the images."""
    return float(ious.amax(dim=1).mean())


def overlap_sheet(ious: Mapping[str, Tensor], subject: Subject) -> Sheet:
    whole = float(subject.masks.double().mean())
    rows = [
        (name, best_heads(values), float(values.mean()), float(values.mean(dim=0).max()), whole)
        for name, values in ious.items()
    ]
    columns = ("step", "best head of each image", "mean over heads", "best head for all images", "whole image")
    caption = (
        f"Coarse mIoU on {len(subject.masks)} held-out images: class-token maps, of which the patches are kept that "
        f"hold {segmentation.SHARE:.0%} of the mass, beside the masks of the data. Random maps have as many heads."
    )
    return Sheet("miou", caption, columns, rows)


def shown_sheet(look: Look) -> Sheet:
    """Of the images that are shown and have masks."""
    rows = []
    for number, mask in look.scene.masks.items():
        own = segmentation.coarse_iou(look.maps[number : number + 1], mask.unsqueeze(0))
        cuts = [] if look.cuts is None else look.cuts[number]
        cut = [segmentation.iou(segmentation.resized(torch.as_tensor(each), tuple(mask.shape)), mask) for each in cuts]
        rows.append((look.scene.names[number], float(own), float(max(cut)) if cut else None))
    caption = f"IoU with the masks of the images that are shown, at {look.step}."
    return Sheet("shown", caption, ("image", "best head", "best object of the normalised cuts"), rows)


def text(subject: Subject, look: Look, ious: Mapping[str, Tensor]) -> tuple[str, ...]:
    token = hasattr(subject.network, "class_token")
    query = "the class token" if token else "all tokens on average (no class token is among them)"
    said = [
        f"Maps are those of {look.step}, the encoder's last step that mixes tokens ({look.kind}): how much {query} "
        "takes of every patch, computed again beside the fused product.",
        "Components are those of U[k]' V, all heads together, over all patches that are shown: the first one divides "
        "foreground from background where it changes sign, the first three of the foreground alone are its colours. "
        "Objects are cut from the same projections as MaskCut does "
        f"(threshold {segmentation.TAU}, at most {segmentation.OBJECTS}), without its conditional random field.",
    ]
    if not ious:
        said.append("No mIoU: the data have no masks, or the network no fused attention.")
    return tuple(said)


def curves(ious: Mapping[str, Tensor]) -> Iterator[Curve]:
    steps = [name for name in ious if name != RANDOM]
    if steps:
        labels = tuple(str(number) for number in range(len(steps)))
        yield Curve("coarse mIoU of the best head, held out", labels, tuple(best_heads(ious[name]) for name in steps))
