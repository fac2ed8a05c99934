"""How well class-token maps and cut objects meet the masks of objects, beside what needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from crate_dsl import Compilation
from runtime import seeds
from runtime.inspection import segmentation
from runtime.inspection.class_maps import StepMaps, grid_of, projections
from runtime.instruments.scenes import MaskedImages
from runtime.instruments.section import Sheet

BOX = "centred box"
CHANCES = 10  # draws of random maps that the baseline averages over
CUT_WORK = 2e9  # images times patches^3, as eigenproblems grow: above it fewer images are cut
MOST_CUT = 16


@dataclass(frozen=True)
class Overlaps:
    """Of one set of images, called by `labels`. `heads` (images, heads) by step are IoUs of binarised maps; `cuts`
    (images,) by step those of the best object of the normalised cuts, on the first images; `beside` (images,) by name
    those without a network.
    """

    name: str
    labels: Sequence[int | str]
    heads: Mapping[str, Tensor]
    cuts: Mapping[str, Tensor]
    beside: Mapping[str, Tensor]

    @property
    def chance(self) -> str:
        return random_maps(max(each.shape[1] for each in self.heads.values()))


def random_maps(heads: int) -> str:
    return f"best of {heads} random maps"


def overlaps(
    compilation: Compilation, network: nn.Module, masked: MaskedImages, found: Mapping[str, StepMaps], seed: int
) -> Overlaps:
    """Of the images that `found` has maps of, the first ones; `network` hides no patch."""
    images, masks = (values[: len(next(iter(found.values())).maps)] for values in (masked.images, masked.masks))
    heads = {name: segmentation.coarse_ious(each.maps, masks) for name, each in found.items()}
    count = max(each.shape[1] for each in heads.values())
    return Overlaps(
        masked.name, masked.labels[: len(images)], heads, cuts(compilation, network, images, masks),
        beside(masks, grid_of(network), count, seed),
    )  # fmt: skip


def cuts(compilation: Compilation, network: nn.Module, images: Tensor, masks: Tensor) -> dict[str, Tensor]:
    """By step: the IoU of the best object of every image, 0 where nothing was cut."""
    grid = grid_of(network)
    count = max(1, min(MOST_CUT, int(CUT_WORK / prod(grid) ** 3)))
    return {
        place.name: torch.stack(
            [best_object(segmentation.affinity(each), grid, mask) for each, mask in zip(values, masks, strict=False)]
        )
        for place, values in projections(compilation, network, images[:count])
    }


def best_object(similarity: np.ndarray, grid: tuple[int, int], mask: Tensor) -> Tensor:
    objects = [torch.as_tensor(each) for each in segmentation.mask_cut(similarity, grid)]
    if not objects:
        return torch.tensor(0.0)
    return segmentation.iou(segmentation.resized(torch.stack(objects), tuple(mask.shape)), mask).max()


def beside(masks: Tensor, grid: tuple[int, int], heads: int, seed: int) -> dict[str, Tensor]:
    """What needs no network, (images,) each; a random map has uniform, independent weights."""
    shape = tuple(masks.shape[-2:])
    generator = seeds.torch_generator(seed)
    draws = torch.stack(
        [
            segmentation.coarse_ious(torch.rand(len(masks), heads, *grid, generator=generator), masks)
            for _ in range(CHANCES)
        ]
    )
    box = segmentation.centred_box(float(masks.double().mean()), shape)
    return {
        random_maps(heads): draws.amax(dim=2).mean(0),
        "a random map": draws.mean(dim=(0, 2)),
        BOX: segmentation.iou(box.expand_as(masks), masks),
        "whole image": segmentation.iou(torch.ones_like(masks), masks),
        "best choice of patches": segmentation.ceiling(masks, grid),
    }


# ---- tables --------------------------------------------------------------------------------------------------------


def miou_sheet(found: list[Overlaps]) -> Sheet:
    """Means over the images, in long format."""
    rows = []
    for each in found:
        for step, values in each.heads.items():
            rows += [
                (each.name, "best head of each image", step, len(values), float(values.amax(dim=1).mean())),
                (each.name, "mean over heads", step, len(values), float(values.mean())),
                (each.name, "best single head", step, len(values), float(values.mean(dim=0).max())),
            ]
        for step, values in each.cuts.items():
            rows.append((each.name, "best cut object", step, len(values), float(values.mean())))
        for name, values in each.beside.items():
            rows.append((each.name, name, None, len(values), float(values.mean())))
    caption = (
        f"Coarse mIoU: of every map the fewest patches that hold {segmentation.SHARE:.0%} of its mass, against the "
        "masks at pixel size; and what needs no network. The best single head is chosen with the masks, and the "
        "centred box has their mean size."
    )
    return Sheet("miou", caption, ("images", "what", "step", "count", "mIoU"), rows)


def image_sheet(found: list[Overlaps]) -> Sheet:
    """Every image at every step: its best head, its best cut object."""
    rows = []
    for each in found:
        for step, values in each.heads.items():
            best = values.max(dim=1)
            for number, (value, head) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
                cut = each.cuts.get(step)
                known = cut is not None and number < len(cut)
                label, by_cut = each.labels[number], float(cut[number]) if known else None
                rows.append((each.name, label, step, head, value, by_cut))
    columns = ("images", "image", "step", "best head", "IoU of the best head", "IoU of the best cut object")
    return Sheet("images", "Every image with a mask, at every step.", columns, rows)
