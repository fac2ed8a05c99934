"""The loss of a share of a batch as the forward pass of a module, which is what DDP and FSDP can wrap."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runtime.data.source import Batch
from runtime.scoring.measure import autocast
from runtime.tasks.task import Task
from runtime.training.penalty import Call


class Objective(nn.Module):
    """`task`'s loss of the network within `trained`, and the penalty that the spec's loss adds to it."""

    def __init__(self, task: Task, call: Call, trained: nn.Module, precision: str) -> None:
        super().__init__()
        self.task, self.call, self.trained, self.precision = task, call, trained, precision

    def forward(self, inputs: Tensor, labels: Tensor | None, draw: Tensor | None) -> Tensor:
        """(loss, data, penalty) of the share; the loss is the sum of the other two."""
        with autocast(inputs.device, self.precision):
            data = self.task.loss(self.call, self.trained, Batch(inputs, labels), draw)
        penalty = self.call.penalty() if self.call.penalised else torch.zeros_like(data)
        return torch.stack([data + penalty, data.detach(), penalty.detach()])
