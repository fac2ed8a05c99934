"""Weights away from their starts, so that a comparison sees every one of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def perturb(network: nn.Module, seed: int) -> None:
    """Move every parameter off its start, so that no gain is 1 and no bias 0."""
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.from_numpy(generator.standard_normal(tuple(parameter.shape))).to(parameter)
