"""What a task is: a loss to train, scores to report and, where images come out, pictures to look at."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.registry import Strict

Call = Callable[..., Tensor]  # the network itself, or what torch.compile or DDP made of it


class Task(Strict):
    """Options of one task; a subclass has a literal field `name`.

    `networks` are the kinds of network (their attribute `task`) that it can train; `metric` is the score that decides
    which weights are best.
    """

    networks: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    larger_is_better: ClassVar[bool] = False
    whole_batch: ClassVar[bool] = False  # the loss couples the images of a batch: it is not the mean over its shares
    compares: ClassVar[bool] = False  # the metric cannot be had without `reference`

    def check(self, network: nn.Module, classes: int | None) -> None:
        """Raises UserError where network, task and data do not belong together."""
        if network.task not in self.networks:
            raise UserError(f'task "{self.name}" cannot train a network of the kind "{network.task}"')

    def passes(self) -> tuple[int, int]:
        """How often the network runs over an input in a training step: with a gradient, and without."""
        return 1, 0

    def draw(self, network: nn.Module, images: int, generator: torch.Generator) -> Tensor | None:
        """The randomness of a batch of so many inputs, first axis the batch; None where a task has none."""
        return None

    def apparatus(self, network: nn.Module) -> nn.Module:
        """What is trained: the network itself, or a module around it that holds what training needs beside it.

        Its parameters are optimised and its state is kept in checkpoints; `loss` and `after_step` are given it in the
        network's place. The weights that a run exports are those of `judged`.
        """
        return network

    def judged(self, trained: nn.Module) -> nn.Module:
        """The network that is evaluated and kept, found in what `apparatus` made."""
        return trained

    def after_step(self, trained: nn.Module, step: int, total: int) -> dict[str, float]:
        """What follows the optimiser's step number `step` of 0 .. total - 1; returns figures for the log."""
        return {}

    @abstractmethod
    def loss(self, call: Call, network: nn.Module, batch: Batch, draw: Tensor | None) -> Tensor:
        """The scalar to minimise: a mean over the batch, so that the means of equal shares average to it.

        `network` is what `apparatus` made; `call` is the compiled network within, or what was made of it.
        """

    def reference(self, network: nn.Module, batches: Iterable[Batch]) -> Tensor | None:
        """What a trivial prediction needs to know of the training data; None where a task has no such prediction."""
        return None

    @abstractmethod
    def scores(
        self, network: nn.Module, batch: Batch, draw: Tensor | None, reference: Tensor | None
    ) -> dict[str, Tensor]:
        """Scores of every input, (batch,) each, to be averaged over a split."""

    def summary(self, means: dict[str, float]) -> dict[str, float]:
        """The reported figures, from the averaged scores."""
        return means

    def inputs(self, images: Tensor, draw: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the network is called with: images or text, and the noise of a masked network or None."""
        return images, None

    def panels(self, network: nn.Module, batch: Batch, draw: Tensor | None) -> dict[str, Tensor]:
        """Columns of what is shown, by label: images (batch, channels, height, width) or token numbers (batch, N).

        Empty where there is nothing to show; a hidden token is `alphabet.HIDDEN`.
        """
        return {}


def wide(values: Tensor) -> Tensor:
    """Values in at least float32, for losses and scores of networks that run in fewer bits."""
    return values if values.dtype == torch.float64 else values.float()


def cross_entropy(logits: Tensor, tokens: Tensor) -> Tensor:
    """Of every token, (batch, N), from logits (batch, N, vocabulary)."""
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(tokens.shape)


def average(batches: Iterable[Tensor]) -> Tensor:
    """The mean over the first axis of all tensors together."""
    total, count = None, 0
    for values in batches:
        total = values.sum(0) if total is None else total + values.sum(0)
        count += len(values)
    if total is None:
        raise UserError("the data are empty")
    return total / count
