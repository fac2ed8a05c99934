"""Scores of a network over a split: deterministic, without gradients."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from runtime import seeds
from runtime.data.source import Images
from runtime.errors import UserError
from runtime.parallel import World
from runtime.tasks.task import Task
from runtime.training.penalty import penalties
from runtime.training.sampler import in_order

REFERENCE_LIMIT = 10_000  # training images, or windows of text, that predictions are compared with


def pick_device(name: str, local: int | None = None) -> torch.device:
    """`auto` is the first accelerator, or the processor where there is none; of several processes each has its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and local is not None:
        name = f"cuda:{local}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()
        return device
    except (RuntimeError, AssertionError) as error:  # unknown word, or without numbers; known but absent
        raise UserError(f'device "{name}" cannot be used: {str(error).splitlines()[0]}') from None


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@torch.no_grad()
def measure(
    task: Task,
    network: nn.Module,
    images: Images,
    batch: int,
    precision: str,
    reference: Tensor | None = None,
    world: World = World(),  # noqa: B008
) -> dict[str, float]:
    """The task's figures over all of `images`; masks and noise are the same whenever and in however many processes.

    Processes take turns over the batches. All call the network equally often, as a sliced network needs: one that has
    no batch left repeats the first and does not count it.
    """
    device = next(network.parameters()).device
    modes, totals = {module: module.training for module in network.modules()}, torch.zeros(())
    network.eval()
    for turn in range(0, len(images), batch * world.size):
        first = turn + batch * world.rank
        counts, first = first < len(images), first if first < len(images) else 0
        part = images.take(range(first, min(first + batch, len(images))), None).to(device)
        draw = held_out_draw(task, network, first, len(part))
        with autocast(device, precision):
            scores = task.scores(network, part, draw, reference) | penalties(network, *task.inputs(part.inputs, draw))
        totals = totals + torch.stack([value.double().sum().cpu() for value in scores.values()]) * counts
    for module, training in modes.items():
        module.training = training
    means = dict(zip(scores, (world.total(totals) / len(images)).tolist(), strict=True))
    penalty = {"penalty": means.pop("penalty")} if "penalty" in means else {}
    return task.summary(means) | penalty


def held_out_draw(task: Task, network: nn.Module, first: int, count: int) -> Tensor | None:
    """Mask or noise of `count` images from image number `first` on."""
    draw = task.draw(network, count, seeds.torch_generator(seeds.HELD_OUT, first))
    return None if draw is None else draw.to(next(network.parameters()).device)


@torch.no_grad()
def reference_of(task: Task, network: nn.Module, images: Images, batch: int) -> Tensor | None:
    """What the task's trivial prediction knows of the training images, of at most 10,000 at even distances."""
    device = next(network.parameters()).device
    return task.reference(network, (part.to(device) for part in in_order(images, batch, REFERENCE_LIMIT)))
