"""Stateless randomness: every draw is a function of the seed and of where it is used, so that resuming is exact.

Order of the data = f(seed, epoch); augmentation of an image = f(seed, epoch, index); masks, noise and the augmentation
of a batch = f(seed, step); what a network draws in a forward pass = f(seed, step, share of the batch).
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch

# One stream per use, so that no two uses share numbers.
ORDER, AUGMENT, DRAW, HELD_OUT, APPARATUS, SAMPLE, FORWARD, BATCH, FOLDER, COMPOSE = range(10)

LARGEST = 2**63 - 1  # of the seeds that torch takes


def numpy_generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def number(*key: int) -> int:
    """A seed for torch's generators."""
    return int.from_bytes(hashlib.blake2b(",".join(map(str, key)).encode(), digest_size=7).digest())


def torch_generator(*key: int) -> torch.Generator:
    return torch.Generator().manual_seed(number(*key))


def begin_forward(device: torch.device, *key: int) -> None:
    """Seed the generators that a network on `device` draws from; `torch.manual_seed` visits those of all devices."""
    seed = number(FORWARD, *key)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order in which an epoch visits `count` images."""
    return numpy_generator(ORDER, seed, epoch).permutation(count)


def stream(seed: int, epoch: int) -> int:
    """The seed by which an epoch shuffles data that are read in sequence."""
    return torch_generator(ORDER, seed, epoch).initial_seed()


def augmentation(draw: tuple[int, int] | None, index: int) -> np.random.Generator | None:
    """The generator of image `index` in the epoch that `draw` = (seed, epoch) names; None where nothing is varied."""
    return numpy_generator(AUGMENT, *draw, index) if draw else None
