"""Matrices that are made of weights alone, made once for all shares of a batch instead of once for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def held_matrices(network: nn.Module) -> Iterator[None]:
    """Within, all forward passes share them; at the end weights are given the gradient that these have gathered.

    The gradient of M = I + eta (D' - D' D) with respect to D is linear in that of M, so the sum over shares may be
    taken first. Compiled code makes them itself and is left alone.
    """
    makers = [value for module in network.modules() for value in vars(module).values() if hasattr(value, "hold")]
    for maker in makers:
        maker.hold()
    try:
        yield
    finally:
        found = [pair for pair in (maker.release() for maker in makers) if pair is not None]
    if found:
        made, gradients = zip(*found, strict=True)
        torch.autograd.backward(made, gradients)
