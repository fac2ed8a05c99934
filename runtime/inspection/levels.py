"""How much of an image a task hides from a network: the mask ratios and the noise levels to look at."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtime.data.source import Batch
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import autocast, held_out_draw
from runtime.tasks.task import Task

RATIOS = (0.25, 0.5, 0.75, 0.9)
NOISES = (0.5, 1.0, 1.5, 2.0)  # times the noise of the task


@dataclass(frozen=True)
class Level:
    """A network and its task with so much hidden: a mask ratio or a standard deviation; None where nothing is."""

    value: float | None
    network: nn.Module
    task: Task


def levels(network: nn.Module, task: Task) -> list[Level]:
    """From little to much, the task's own level among them. Ratios that would hide no patch, or all, are left out."""
    if network.mask_ratio:
        patches = network.token_count - hasattr(network, "class_token")
        wanted = sorted({*RATIOS, network.mask_ratio})
        return [
            Level(ratio, with_ratio(network, ratio), task)
            for ratio in wanted
            if 0 < int(patches * (1 - ratio)) < patches
        ]
    if hasattr(task, "noise"):
        return [Level(n * task.noise, network, task.model_copy(update={"noise": n * task.noise})) for n in NOISES]
    return [Level(None, network, task)]


def with_ratio(network: nn.Module, ratio: float) -> nn.Module:
    """The same weights behind another mask ratio; the network itself keeps its own."""
    other = copy.copy(network)
    other.mask_ratio = ratio
    return other


@torch.no_grad()
def figures(level: Level, recipe: Recipe, batch: Batch, reference: Tensor | None) -> dict[str, float]:
    """The task's scores and figures on the batch; one draw serves all levels: more hides what less does."""
    found: list[dict[str, Tensor]] = []
    device = next(level.network.parameters()).device
    draw = held_out_draw(level.task, level.network, 0, len(batch))
    for first in range(0, len(batch), recipe.evaluate_batch):
        own = slice(first, first + recipe.evaluate_batch)
        with autocast(device, recipe.precision):
            part, noise = Batch(batch.inputs[own].to(device)), None if draw is None else draw[own]
            found.append(level.task.scores(level.network, part, noise, reference))
    means = {name: float(torch.cat([each[name] for each in found]).double().mean()) for name in found[0]}
    return means | level.task.summary(means)


@torch.no_grad()
def pictures(level: Level, images: Tensor) -> dict[str, Tensor]:
    """The columns that the task shows of images (batch, channels, height, width).

    Image for image the draw is that of `figures`, where these are the first images of its batch.
    """
    return level.task.panels(level.network, Batch(images), held_out_draw(level.task, level.network, 0, len(images)))
