"""Class-token maps of every step that mixes tokens, and projections of the patches, a few images at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from crate_dsl import Compilation
from runtime.errors import Inapplicable
from runtime.inspection.attention import attention_maps
from runtime.inspection.derived_maps import ABSENT, derived_maps, kind_of, mixes
from runtime.inspection.descent import states_before
from runtime.inspection.places import Place, array, places
from runtime.inspection.rates import family_of, projected
from runtime.inspection.segmentation import class_maps

WEIGHTS = 2**26  # numbers of all attention weights that are in memory at once
FUSED = "softmax attention, computed again beside the fused product"  # the kind of maps that are not derived


@dataclass(frozen=True)
class StepMaps:
    """Maps of one step, (images, heads, rows, columns). `kind` says what they are, `queries` whose they are."""

    kind: str
    queries: str
    maps: Tensor


def grid_of(network: nn.Module) -> tuple[int, int]:
    """Rows and columns of patches."""
    return tuple(side // patch for side, patch in zip(network.image_size, network.patch_size, strict=True))


def layers_of(steps: Iterable[str]) -> list[str]:
    """The numbers of the layers that steps belong to; their names where they have none, or several share one."""
    names = list(steps)
    parts = [name.split(".") for name in names]
    numbers = [part[1] if len(part) == 3 else name for part, name in zip(parts, names, strict=True)]
    return numbers if len(set(numbers)) == len(numbers) else names


@torch.no_grad()
def step_maps(compilation: Compilation, network: nn.Module, images: Tensor) -> Mapping[str, StepMaps]:
    """By the name of the step in `features`, in their order, on the CPU; a decoder behind an encoder is left out.

    From the fused attention where a step has one, else from its derived formula. `network` hides no patch. Raises
    Inapplicable where no step mixes tokens by a matrix of their own, and where weights are not finite.
    """
    grid, parts, kinds = grid_of(network), {}, {}
    for part in batches(compilation, network, images):
        for name, (kind, weights) in mixed(compilation, network, part).items():
            class_token = weights.shape[-1] > prod(grid)
            kinds[name] = kind, "the class token" if class_token else "all tokens on average"
            if not weights.isfinite().all():
                raise Inapplicable(f"its weights at {name} are not finite")
            parts.setdefault(name, []).append(class_maps(weights, grid).cpu())
    return {name: StepMaps(*kinds[name], torch.cat(found)) for name, found in parts.items()}


def batches(compilation: Compilation, network: nn.Module, images: Tensor) -> Sequence[Tensor]:
    """The images in parts whose weights fit into memory."""
    each = sum(weights[0].numel() for _, weights in mixed(compilation, network, images[:1]).values())
    return images.split(max(1, WEIGHTS // each))


def mixed(compilation: Compilation, network: nn.Module, images: Tensor) -> Mapping[str, tuple[str, Tensor]]:
    """Kind and weights (images, heads, queries, N) of every step that mixes tokens."""
    try:
        fused = attention_maps(network, images)
    except Inapplicable:
        fused = {}
    features = network.features(images)
    derived = {
        place.name: (place, tokens)
        for place, tokens in states_before(features, places(compilation, network))
        if place.name not in fused and mixes(place)
    }
    found = {
        name: (FUSED, fused[name]) if name in fused else (kind_of(derived[name][0]), derived_maps(*derived[name]))
        for name in features
        if (name in fused or name in derived) and looked_at(compilation, name)
    }
    if not found:
        raise Inapplicable(ABSENT)
    return found


def looked_at(compilation: Compilation, name: str) -> bool:
    """A decoder's steps count only where there is no encoder."""
    roles = {block.block.role for block in compilation.derivation.blocks}
    return not name.startswith("decoder.") or "encoder" not in roles


@torch.no_grad()
def projections(compilation: Compilation, network: nn.Module, images: Tensor) -> Iterator[tuple[Place, np.ndarray]]:
    """U_k' z of the patches, (images, patches, K p), of every step that has a family of subspaces.

    Tokens are those that the step reads, after its norm; all heads stand one after another, as the paper stacks them.
    """
    patches = prod(grid_of(network))
    for place, tokens in states_before(network.features(images), places(compilation, network)):
        family = family_of(place) if looked_at(compilation, place.name) else None
        if family is not None:
            yield place, array(projected(place.read(tokens), family).transpose(1, 2).flatten(2)[:, -patches:])
