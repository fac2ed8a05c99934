"""What is looked at for attention and objects: some images, and what a network's last mixing step makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from crate_dsl import Compilation
from runtime.data.photographs import pixels
from runtime.errors import Inapplicable
from runtime.inspection import segmentation
from runtime.inspection.attention import attention_maps
from runtime.inspection.derived_maps import derived_maps, kind_of
from runtime.inspection.descent import states_before
from runtime.inspection.places import Place, array, places
from runtime.inspection.rates import family_of, projected
from runtime.instruments.subject import Subject
from runtime.network import SHAPES
from runtime.probing.features import before_patches, unmasked

OWN = 4  # held-out images that are shown
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
LEAST_GRID = 8  # patches a side from which a photograph shows more than a blur


@dataclass(frozen=True)
class Scene:
    """Images that are looked at together (images, channels, height, width), their names, and masks where known."""

    names: tuple[str, ...]
    images: Tensor
    masks: Mapping[int, Tensor]


@dataclass(frozen=True)
class Look:
    """What the last mixing step of the encoder makes of a scene."""

    scene: Scene
    step: str
    kind: str  # what the maps are
    maps: Tensor  # (images, heads, rows, columns)
    first: np.ndarray | None  # (images, rows, columns): first component of the projections
    colours: np.ndarray | None  # (images, rows, columns, 3) in [0, 1]: the next three, of the foreground
    cuts: list[list[np.ndarray]] | None


# ---- what is looked at ---------------------------------------------------------------------------------------------


def scene_of(subject: Subject) -> Scene:
    """The user's pictures, else some held-out images and, where they are small or none, photographs."""
    device = subject.held_out.inputs.device
    if subject.shown:
        masks = {number: each.mask for number, each in enumerate(subject.shown) if each.mask is not None}
        images = torch.stack([each.image for each in subject.shown]).to(device)
        return Scene(tuple(each.name for each in subject.shown), images, masks)
    own = subject.held_out.images[:OWN]
    masks = {} if subject.masks is None else dict(enumerate(subject.masks[: len(own)].cpu()))
    names = tuple(f"held out {number + 1}" for number in range(len(own)))
    enough = subject.recipe.data.name == "photographs" and len(own) == OWN
    if enough or min(grid_of(subject.network)) < LEAST_GRID:
        return Scene(names, own, masks)
    shape = SHAPES["image"].of(subject.network)
    more = [subject.recipe.data.prepared(Image.fromarray(pixels(name)), shape) for name in PHOTOGRAPHS]
    return Scene((*names, *PHOTOGRAPHS), torch.cat([own, torch.stack(more).to(device)]), masks)


def grid_of(network: nn.Module) -> tuple[int, int]:
    """Rows and columns of patches."""
    return tuple(side // patch for side, patch in zip(network.image_size, network.patch_size, strict=True))


# ---- what is seen --------------------------------------------------------------------------------------------------


@torch.no_grad()
def looked(subject: Subject, scene: Scene) -> Look:
    """By the network with nothing masked."""
    network = unmasked(subject.network)
    step, kind, weights = last_weights(subject.compilation, network, scene.images)
    maps = segmentation.class_maps(weights, grid_of(network))
    return Look(
        scene, step, kind, maps.cpu(), *objects(projections(subject.compilation, network, scene.images), network)
    )


def last_weights(compilation: Compilation, network: nn.Module, images: Tensor) -> tuple[str, str, Tensor]:
    """Name and kind of the encoder's last step that mixes tokens, and its weights (images, heads, N, N)."""
    try:
        found = {name: weights for name, weights in attention_maps(network, images).items() if in_encoder(name)}
        name = list(found)[-1]
        return name, "attention", found[name]
    except Inapplicable:
        place, tokens = last_place(compilation, network, images, mixes)
        return place.name, kind_of(place), derived_maps(place, tokens)


def last_place(
    compilation: Compilation, network: nn.Module, images: Tensor, wanted: Callable[[Place], bool]
) -> tuple[Place, Tensor]:
    """The encoder's last step of a kind, with the tokens that come into it."""
    found = [
        (place, tokens)
        for place, tokens in states_before(network.features(images), places(compilation, network))
        if in_encoder(place.name) and wanted(place)
    ]
    if not found:
        raise Inapplicable("no step of this network mixes tokens by a matrix of their own")
    return found[-1]


def in_encoder(name: str) -> bool:
    return name.startswith("encoder.")


def mixes(place: Place) -> bool:
    try:
        return bool(kind_of(place))
    except Inapplicable:
        return False


def projections(compilation: Compilation, network: nn.Module, images: Tensor) -> np.ndarray | None:
    """U_k' V of the patches by the encoder's last family of subspaces, (images, patches, K p); None without one."""
    try:
        place, tokens = last_place(compilation, network, images, lambda place: family_of(place) is not None)
    except Inapplicable:
        return None
    found = projected(place.read(tokens), family_of(place)).transpose(1, 2).flatten(2)
    return array(found[:, before_patches(network, tokens) :])


def objects(
    found: np.ndarray | None, network: nn.Module
) -> tuple[np.ndarray | None, np.ndarray | None, list[list[np.ndarray]] | None]:
    """First component, colours of the foreground, and object masks of every image."""
    if found is None:
        return None, None, None
    grid = grid_of(network)
    flat = found.reshape(-1, found.shape[-1])
    first = segmentation.components(flat, 1)[:, 0].reshape(-1, *grid)
    cuts = [segmentation.mask_cut(segmentation.affinity(each), grid) for each in found]
    return first, coloured(flat, first), cuts


def coloured(flat: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The first three components of the foreground's tokens alone, each scaled to [0, 1]; what is around is white."""
    colours, inside = np.ones((*first.shape, 3)), first > 0
    if inside.sum() > 3:
        values = segmentation.components(flat[inside.ravel()], 3)
        low, high = values.min(axis=0), values.max(axis=0)
        colours[inside] = (values - low) / np.where(high > low, high - low, 1)
    return colours
