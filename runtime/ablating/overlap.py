"""How well the class token's attention covers the object of an image, layer by layer: coarse segmentation.

Source: Yu et al. 2023, arXiv 2308.16271, section 3.2; `runtime/inspection/segmentation.py` has the convention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtime import seeds
from runtime.data.source import Images
from runtime.errors import UserError
from runtime.inspection.attention import attention_maps
from runtime.inspection.class_maps import grid_of
from runtime.inspection.segmentation import ceiling, class_maps, coarse_iou, coarse_ious


@dataclass(frozen=True)
class Overlap:
    """Coarse IoU of one layer, averaged over images.

    `best` takes the best head of every image, as the paper does. `shuffled` does the same with the patches of every map
    in random order: masks as large as the network's, anywhere. `heads` has every head by itself.
    """

    layer: str
    best: float
    shuffled: float
    heads: tuple[float, ...]


@dataclass(frozen=True)
class Bounds:
    """What random maps of as many heads reach, and the best that any choice of whole patches can reach."""

    random: float
    ceiling: float


@torch.no_grad()
def overlaps(network: nn.Module, images: Images, batch: int) -> list[Overlap]:
    """Of every layer with attention, on all images of a split that has masks; the class token is the first token."""
    device, found = next(network.parameters()).device, {}
    network.eval()
    for first in range(0, len(images), batch):
        rows = range(first, min(first + batch, len(images)))
        inputs, masks = images.take(rows, None).images.to(device), images.masks(rows).to(device)
        for name, weights in attention_maps(network, inputs).items():
            maps = class_maps(weights, grid_of(network))
            both = coarse_ious(maps, masks), coarse_iou(shuffled(maps, first), masks)
            found.setdefault(name, []).append([value.cpu() for value in both])
    return [overlap(name, *map(torch.cat, zip(*parts, strict=True))) for name, parts in found.items()]


def overlap(layer: str, heads: Tensor, at_random: Tensor) -> Overlap:
    """From the IoU of every image with every head (images, heads), and with shuffled maps (images,)."""
    means = tuple(heads.double().mean(dim=0).tolist())
    return Overlap(layer, float(heads.amax(dim=1).double().mean()), float(at_random.double().mean()), means)


def shuffled(maps: Tensor, *key: int) -> Tensor:
    """Maps (batch, heads, rows, columns) with their patches in an order of its own each."""
    flat = maps.flatten(2)
    order = torch.rand(flat.shape, generator=seeds.torch_generator(seeds.HELD_OUT, *key)).argsort(dim=2)
    return flat.gather(2, order.to(maps.device)).view_as(maps)


def bounds(masks: Tensor, heads: int, grid: tuple[int, int]) -> Bounds:
    """For masks (images, height, width)."""
    maps = torch.rand((len(masks), heads, *grid), generator=seeds.torch_generator(seeds.HELD_OUT, len(masks)))
    return Bounds(float(coarse_iou(maps, masks).double().mean()), float(ceiling(masks, grid).double().mean()))


def every_mask(images: Images, batch: int) -> Tensor:
    """(images, height, width) of a split with masks."""
    ends: Sequence[int] = range(0, len(images), batch)
    return torch.cat([images.masks(range(first, min(first + batch, len(images)))) for first in ends])


def require_masks(images: Images, data: str) -> None:
    """Raises UserError where nothing is known of where objects are."""
    if not hasattr(images, "masks"):
        raise UserError(f"data {data} has no masks of objects to compare attention with: data=composites has")
