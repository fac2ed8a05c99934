"""Which training images lie nearest to others in the representation that a network makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from runtime.data.source import Images
from runtime.probing.features import Reading, reading, unmasked
from runtime.scoring.measure import autocast
from runtime.scoring.neighbours import Neighbours
from runtime.tasks.task import wide


@dataclass(frozen=True)
class Pool:
    """Training images to be found again: their numbers in the split and, where the data have them, their classes."""

    images: Images
    numbers: Sequence[int]
    batch: int


@dataclass(frozen=True)
class Nearest:
    """Of every query its nearest images of the pool, (queries, count) each; `right` is the vote of the 20 nearest.

    `numbers` are those in the training split, `distances` 1 - cosine, `classes` and `right` None without classes.
    """

    reading: Reading
    distances: np.ndarray
    numbers: np.ndarray
    classes: np.ndarray | None
    right: Tensor | None


@torch.no_grad()
def nearest(
    network: nn.Module, pool: Pool, queries: Tensor, labels: Tensor | None, count: int, precision: str
) -> Nearest:
    """`queries` (n, channels, height, width) among the pool, nothing masked; classes `labels` (n,) of the queries."""
    network, device = unmasked(network), next(network.parameters()).device
    read = reading(network, queries[:1])

    def features(images: Tensor) -> Tensor:
        with autocast(device, precision):
            return wide(read.of(network, images.to(device))).cpu()

    found, classes = [], []
    for first in range(0, len(pool.numbers), pool.batch):
        part = pool.images.take(pool.numbers[first : first + pool.batch], None)
        found.append(features(part.inputs))
        classes.append(part.labels)
    known = None if classes[0] is None else torch.cat(classes).cpu()
    asked = torch.cat([features(part) for part in queries.split(pool.batch)])
    voters = Neighbours(torch.cat(found), torch.zeros(len(pool.numbers)) if known is None else known)
    distances, places = voters.nearest(asked, count)
    judged = known is not None and labels is not None
    return Nearest(
        read,
        distances,
        np.asarray(pool.numbers)[places],
        known.numpy()[places] if known is not None else None,
        voters.right(asked[: len(labels)], labels.cpu()) if judged else None,
    )
