"""The trivial prediction of text: how often each token occurs in the training text, whatever stands around it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from runtime.data.source import Batch


def unigram(batches: Iterable[Batch], vocabulary: int) -> Tensor:
    """Log-probabilities (vocabulary,), every token counted once more than it occurs, so that none is impossible."""
    counts = torch.ones(vocabulary, dtype=torch.float64)
    for batch in batches:
        counts += torch.bincount(batch.inputs.flatten().cpu(), minlength=vocabulary)
    return (counts / counts.sum()).log().float()
