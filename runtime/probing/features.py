"""Frozen features of images: one vector of each, read in evaluation mode, nothing masked, nothing augmented."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from crate_dsl.errors import known
from runtime.data.source import Images
from runtime.errors import UserError
from runtime.scoring.measure import autocast
from runtime.tasks.task import wide
from runtime.training.sampler import in_order

Pool = Literal["class_token", "mean", "output"]
POOLS = get_args(Pool)
Features = tuple[Tensor, Tensor]  # (images, features) and the classes (images,)


@dataclass(frozen=True)
class Reading:
    """Which tokens make an image's vector: the class token or the mean of the patch tokens after `step`.

    `output` is what the network gives itself, for heads without parameters; it has no step.
    """

    step: str
    pool: Pool

    def __str__(self) -> str:
        tokens = {"class_token": "the class token", "mean": "the mean of the patch tokens"}
        return f"{tokens[self.pool]} after {self.step}" if self.pool in tokens else "the output of the network"

    def of(self, network: nn.Module, images: Tensor) -> Tensor:
        """(batch, features) of images (batch, channels, height, width)."""
        if self.pool == "output":
            return network(images)
        tokens = network.features(images)[self.step]
        return tokens[:, 0] if self.pool == "class_token" else tokens[:, before_patches(network, tokens) :].mean(dim=1)


def before_patches(network: nn.Module, tokens: Tensor) -> int:
    """How many of these tokens (batch, tokens, features) stand before those of the patches: none, or the class token.

    Class attention has one only behind the blocks.
    """
    return tokens.shape[1] - prod(network.image_size) // prod(network.patch_size)


def reading(network: nn.Module, example: Tensor, step: str | None = None, pool: Pool | None = None) -> Reading:
    """What is read where the user does not say: after the norm that ends the encoder, or its last step.

    The class token where there is one, else the mean; of a network whose output are features, this output. `example`
    is an image (1, channels, height, width). Raises UserError for a step or a token that the network does not have.
    """
    if network.task == "features" and step is None and pool in (None, "output"):
        return Reading("", "output")
    if pool == "output":
        raise UserError('the output of a network is read of a "head features" only: choose class_token or mean')
    with torch.no_grad():
        steps = unmasked(network).features(example)
    if step is not None and step not in steps:
        raise UserError(f'no step "{step}"; {known("steps", step, steps)}')
    step = step or ([name for name in steps if name.startswith("encoder")] or list(steps))[-1]
    has_class_token = before_patches(network, steps[step]) > 0
    if pool == "class_token" and not has_class_token:
        raise UserError(f"there is no class token after {step}: choose the mean")
    return Reading(step, pool or ("class_token" if has_class_token else "mean"))


def unmasked(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode that hides no patch, whatever share of them was hidden in training."""
    network = copy.deepcopy(network).eval()
    if network.mask_ratio:
        network.mask_ratio = 0.0
    return network


@torch.no_grad()
def collected(
    read: Callable[[Tensor], Tensor], images: Images, batch: int, device: torch.device, precision: str
) -> Features:
    """What `read` makes of all images in their own order, on the CPU; raises UserError where it is not finite."""
    found, labels = [], []
    for part in in_order(images, batch):
        with autocast(device, precision):
            found.append(wide(read(part.inputs.to(device))).cpu())
        labels.append(part.labels)
    features = torch.cat(found)
    if not torch.isfinite(features).all():
        raise UserError("the features are not finite: the network cannot be probed")
    return features, torch.cat(labels)
