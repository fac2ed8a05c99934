"""Images that are looked at one by one: held-out ones, the user's pictures, photographs inside scikit-image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from runtime.data.photographs import pixels
from runtime.inspection.class_maps import grid_of
from runtime.instruments.subject import Subject
from runtime.network import SHAPES

OWN, GIVEN = 4, 8  # held-out images and pictures of the user that are shown
HELD_OUT = "held out"  # the name of these images where numbers are given
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
LEAST_GRID = 8  # patches a side from which a photograph shows more than a blur


@dataclass(frozen=True)
class Group:
    """Images of one kind, (images, channels, height, width), their names, and by their number masks where known."""

    names: tuple[str, ...]
    images: Tensor
    masks: Mapping[int, Tensor]


def groups(subject: Subject) -> Sequence[Group]:
    """Held-out images; then the user's pictures, or photographs where there are none and the patches can show them."""
    found = [held_out(subject)]
    if subject.shown:
        found.append(given(subject))
    elif subject.recipe.data.name != "photographs" and min(grid_of(subject.network)) >= LEAST_GRID:
        found.append(photographs(subject))
    return found


def held_out(subject: Subject) -> Group:
    images = subject.held_out.images[:OWN]
    masks = {} if subject.masks is None else dict(enumerate(subject.masks[:OWN].cpu()))
    return Group(tuple(f"{HELD_OUT} {number}" for number in subject.numbers[:OWN]), images, masks)


def given(subject: Subject) -> Group:
    shown = subject.shown[:GIVEN]
    images = torch.stack([each.image for each in shown]).to(subject.held_out.inputs.device)
    masks = {number: each.mask for number, each in enumerate(shown) if each.mask is not None}
    return Group(tuple(each.name for each in shown), images, masks)


def photographs(subject: Subject) -> Group:
    """As the recipe's data prepare pictures."""
    shape, data = SHAPES["image"].of(subject.network), subject.recipe.data
    images = torch.stack([data.prepared(Image.fromarray(pixels(name)), shape) for name in PHOTOGRAPHS])
    return Group(PHOTOGRAPHS, images.to(subject.held_out.inputs.device), {})


@dataclass(frozen=True)
class MaskedImages:
    """Images with their masks (images, height, width); `name` says which they are, `labels` each of them."""

    name: str
    labels: Sequence[int | str]
    images: Tensor
    masks: Tensor


def with_masks(subject: Subject) -> Iterator[MaskedImages]:
    """The held-out batch where the data have masks, and all pictures of the user that have one."""
    if subject.masks is not None:
        yield MaskedImages(HELD_OUT, subject.numbers, subject.held_out.images, subject.masks.cpu())
    named = [each for each in subject.shown if each.mask is not None]
    if named:
        images = torch.stack([each.image for each in named]).to(subject.held_out.inputs.device)
        masks = torch.stack([each.mask for each in named]).cpu()
        yield MaskedImages("pictures", [each.name for each in named], images, masks)
