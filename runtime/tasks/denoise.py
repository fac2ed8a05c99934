"""Denoising: find the clean image behind additive Gaussian noise."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.data.source import Batch
from runtime.tasks.task import Call, Task, wide

RANGE = 2.0  # of the values, [-1, 1]: the peak of the signal-to-noise ratio


class Denoise(Task):
    """The input is the image plus noise of standard deviation `noise` (values are in [-1, 1]); the target is the image.

    Scores are peak signal-to-noise ratios of the mean squared error over the split, and the gain of the network.
    """

    name: Literal["denoise"] = "denoise"
    noise: float = Field(default=0.5, gt=0)
    networks: ClassVar = ("reconstruct",)
    metric: ClassVar = "gain_db"
    larger_is_better: ClassVar = True

    def draw(self, network: nn.Module, images: int, generator: torch.Generator) -> Tensor:
        return torch.randn(images, network.channels, *network.image_size, generator=generator)

    def inputs(self, images: Tensor, draw: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.noisy(images, draw), None

    def noisy(self, images: Tensor, draw: Tensor) -> Tensor:
        return images + self.noise * draw

    def loss(self, call: Call, network: nn.Module, batch: Batch, draw: Tensor | None) -> Tensor:
        return F.mse_loss(wide(call(self.noisy(batch.images, draw))), network.patchify(batch.images))

    def scores(
        self, network: nn.Module, batch: Batch, draw: Tensor | None, reference: Tensor | None
    ) -> dict[str, Tensor]:
        noisy = self.noisy(batch.images, draw)
        error = (wide(network(noisy)) - network.patchify(batch.images)).square()
        return {
            "noisy_error": (noisy - batch.images).square().flatten(1).mean(dim=1),
            "error": error.flatten(1).mean(dim=1),
        }

    def summary(self, means: dict[str, float]) -> dict[str, float]:
        before, after = (10 * math.log10(RANGE**2 / max(means[key], 1e-12)) for key in ("noisy_error", "error"))
        return {"noisy_db": before, "denoised_db": after, "gain_db": after - before, "error": means["error"]}

    def panels(self, network: nn.Module, batch: Batch, draw: Tensor | None) -> dict[str, Tensor]:
        noisy = self.noisy(batch.images, draw)
        denoised = network.unpatchify(wide(network(noisy)))
        return {
            "original": batch.images,
            f"noisy\n(std {self.noise:g} on [-1, 1])": noisy,
            "denoised": denoised,
            "what is left:\ndenoised - original": denoised - batch.images,
        }
