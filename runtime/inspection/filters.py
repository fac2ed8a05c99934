"""The linear embedding of patches as pictures: what pattern of pixels each feature takes the product with."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def patch_filters(network: nn.Module) -> Tensor | None:
    """Its weights (features, channels, rows, columns); None where the network has no linear embedding of patches.

    A norm of the pixels that stands before the embedding is no part of the filters.
    """
    projection = getattr(getattr(network, "patches", None), "projection", None)
    if network.input != "image" or not isinstance(projection, nn.Linear):
        return None
    weights = projection.weight.detach()
    rows, columns = network.patch_size
    (height, width), features = network.image_size, len(weights)
    places = weights.new_zeros(features, (height // rows) * (width // columns), weights.shape[1])
    places[:, 0] = weights
    return network.unpatchify(places)[:, :, :rows, :columns].float().cpu()


def strongest(filters: Tensor, count: int) -> list[int]:
    """The numbers of the filters with the largest norms, rising."""
    norms = filters.flatten(1).norm(dim=1)
    return sorted(torch.topk(norms, min(count, len(norms))).indices.tolist())
