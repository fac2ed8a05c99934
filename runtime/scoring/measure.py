"""Scores of a network over a split: deterministic, without gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from runtime import seeds
from runtime.data.source import Images
from runtime.errors import UserError
from runtime.tasks.task import Task
from runtime.training.penalty import penalties
from runtime.training.sampler import in_order

REFERENCE_LIMIT = 10_000  # training images, or windows of text, that a trivial prediction is computed from


def pick_device(name: str) -> torch.device:
    """`auto` is the first accelerator, or the processor where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        return device
    except (RuntimeError, AssertionError) as error:  # unknown word; known but absent
        raise UserError(f'device "{name}" cannot be used: {str(error).splitlines()[0]}') from None


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@torch.no_grad()
def measure(
    task: Task, network: nn.Module, images: Images, batch: int, precision: str, reference: Tensor | None = None
) -> dict[str, float]:
    """The task's figures over all of `images`; masks and noise are the same in every call."""
    device = next(network.parameters()).device
    training, totals, count = network.training, {}, 0
    network.eval()
    for part in in_order(images, batch):
        draw = held_out_draw(task, network, count, len(part))
        with autocast(device, precision):
            part = part.to(device)
            scores = task.scores(network, part, draw, reference) | penalties(network, *task.inputs(part.inputs, draw))
        count += len(part)
        totals = {name: totals.get(name, 0.0) + value.double().sum().item() for name, value in scores.items()}
    network.train(training)
    means = {name: total / count for name, total in totals.items()}
    penalty = {"penalty": means.pop("penalty")} if "penalty" in means else {}
    return task.summary(means) | penalty


def held_out_draw(task: Task, network: nn.Module, first: int, count: int) -> Tensor | None:
    """Mask or noise of `count` images from image number `first` on."""
    draw = task.draw(network, count, seeds.torch_generator(seeds.HELD_OUT, first))
    return None if draw is None else draw.to(next(network.parameters()).device)


@torch.no_grad()
def reference_of(task: Task, network: nn.Module, images: Images, batch: int) -> Tensor | None:
    """What the task's trivial prediction knows of (at most the first 10,000 of) the training images."""
    device = next(network.parameters()).device
    return task.reference(network, (part.to(device) for part in in_order(images, batch, REFERENCE_LIMIT)))
