"""What batch norms keep of a batch that is taken in shares."""

from __future__ import annotations

import torch
from torch import nn

from runtime.parallel import averaged


class BatchNorms:
    """The running statistics after a step: the mean of those after each share, as gradients are means over shares.

    Every share goes on from what there was before the step, so that it does not matter which process takes it. A step
    counts as one batch. Norms that are frozen, in evaluation mode, keep theirs.
    """

    def __init__(self, module: nn.Module) -> None:
        norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d) and each.training]
        self.values = [value for norm in norms for value in (norm.running_mean, norm.running_var)]
        self.counts = [norm.num_batches_tracked for norm in norms]

    def begin_step(self) -> None:
        self.before = [value.clone() for value in self.values]
        self.counted = [count.clone() for count in self.counts]
        self.sums = [torch.zeros_like(value) for value in self.values]

    def end_share(self) -> None:
        """After the passes of one share."""
        for value, before, total in zip(self.values, self.before, self.sums, strict=True):
            total += value
            value.copy_(before)

    def end_step(self, shares: int) -> None:
        """After all `shares` of this process; all processes must come here."""
        for value, total in zip(self.values, self.sums, strict=True):
            value.copy_(averaged(total / shares))
        for count, before in zip(self.counts, self.counted, strict=True):
            count.copy_(before + 1)
