"""Masked autoencoding: predict the removed patches (He et al. 2022; CRATE-MAE, Pai et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.tasks.task import Call, Task, average, wide

EPSILON = 1e-6  # under the root of the patch variance, as officially


class MaskedAutoencoding(Task):
    """Mean squared error over the removed patches.

    With `normalise` each target patch is shifted and scaled by its own mean and unbiased variance (`norm_pix_loss` of
    the official code). Such predictions lack the patch's mean and scale: pictures put in those of the visible patches
    of the same image, never the removed patch's own, which would leak the answer.
    """

    name: Literal["mae"] = "mae"
    normalise: bool = False
    networks: ClassVar = ("mae",)
    metric: ClassVar = "masked_error"

    def check(self, network: nn.Module, classes: int | None) -> None:
        super().check(network, classes)
        count = patches_of(network)
        visible = int(count * (1 - network.mask_ratio))
        if visible in (0, count):
            left = "all" if visible else "none"
            raise UserError(f"mask random({network.mask_ratio:g}) leaves {left} of {count} patches: hide some, not all")

    def draw(self, network: nn.Module, images: int, generator: torch.Generator) -> Tensor:
        return torch.rand(images, patches_of(network), generator=generator)

    def inputs(self, images: Tensor, draw: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return images, draw

    def target(self, network: nn.Module, images: Tensor) -> Tensor:
        """What is to be predicted, (batch, N, pixels)."""
        patches = network.patchify(images)
        return normalised(patches) if self.normalise else patches

    def loss(self, call: Call, network: nn.Module, batch: Batch, draw: Tensor | None) -> Tensor:
        """sum(mask * mean over the pixels of squared error) / sum(mask), over the batch."""
        patches, mask = call(batch.images, draw)
        return masked_error(wide(patches), self.target(network, batch.images), mask).mean()

    def reference(self, network: nn.Module, batches: Iterable[Batch]) -> Tensor:
        """The average of every patch over the training images, (N, pixels)."""
        return average(self.target(network, batch.images) for batch in batches)

    def scores(
        self, network: nn.Module, batch: Batch, draw: Tensor | None, reference: Tensor | None
    ) -> dict[str, Tensor]:
        patches, mask = network(batch.images, draw)
        target = self.target(network, batch.images)
        visible = 1 - mask.unsqueeze(-1)
        colour = (target * visible).sum(1, keepdim=True) / visible.sum(1, keepdim=True)  # one patch per image
        scores = {
            "masked_error": masked_error(wide(patches), target, mask),
            "visible_fill_error": masked_error(colour, target, mask),
        }
        if reference is not None:
            scores["mean_fill_error"] = masked_error(reference.expand_as(target), target, mask)
        return scores

    def summary(self, means: dict[str, float]) -> dict[str, float]:
        if "mean_fill_error" not in means:
            return means
        return means | {"ratio_to_mean_fill": means["masked_error"] / means["mean_fill_error"]}

    def panels(self, network: nn.Module, batch: Batch, draw: Tensor | None) -> dict[str, Tensor]:
        patches, mask = network(batch.images, draw)
        removed, original = mask.unsqueeze(-1), network.patchify(batch.images)
        label = "prediction"
        if self.normalise:
            mean, scale = visible_statistics(original, removed)
            patches, label = patches * scale + mean, "prediction\n(mean and scale of the\nvisible patches)"
        return {
            "original": batch.images,
            "masked (grey: removed)": network.unpatchify(original * (1 - removed)),
            label: network.unpatchify(wide(patches)),
            "visible patches +\nprediction of the removed": network.unpatchify(
                torch.where(removed > 0, wide(patches), original)
            ),
        }


def normalised(patches: Tensor) -> Tensor:
    """Patches (..., pixels) with mean 0 and unbiased variance 1 each."""
    mean = patches.mean(dim=-1, keepdim=True)
    return (patches - mean) / (patches.var(dim=-1, keepdim=True) + EPSILON).sqrt()


def masked_error(patches: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the removed patches of each image, (batch,); every image has equally many of them."""
    error = (patches - target).square().mean(dim=-1)
    return (error * mask).sum(dim=-1) / mask.sum(dim=-1)


def visible_statistics(patches: Tensor, removed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and average scale of the visible patches of each image, (batch, 1, 1) both."""
    visible = (1 - removed).expand_as(patches)
    mean = (patches * visible).sum(dim=(1, 2), keepdim=True) / visible.sum(dim=(1, 2), keepdim=True)
    variance = patches.var(dim=-1, keepdim=True) * (1 - removed)
    scale = (variance.sum(dim=1, keepdim=True) / (1 - removed).sum(dim=1, keepdim=True) + EPSILON).sqrt()
    return mean, scale


def patches_of(network: nn.Module) -> int:
    (height, width), (rows, columns) = network.image_size, network.patch_size
    return (height // rows) * (width // columns)
