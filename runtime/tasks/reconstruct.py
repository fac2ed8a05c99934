"""Autoencoding without a mask: give the image back."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from runtime.data.source import Batch
from runtime.tasks.task import Call, Task, wide


class Reconstruct(Task):
    """Mean squared error between the image and what the network makes of it."""

    name: Literal["reconstruct"] = "reconstruct"
    networks: ClassVar = ("reconstruct",)
    metric: ClassVar = "error"

    def loss(self, call: Call, network: nn.Module, batch: Batch, draw: Tensor | None) -> Tensor:
        return F.mse_loss(wide(call(batch.images)), network.patchify(batch.images))

    def scores(
        self, network: nn.Module, batch: Batch, draw: Tensor | None, reference: Tensor | None
    ) -> dict[str, Tensor]:
        error = (wide(network(batch.images)) - network.patchify(batch.images)).square()
        return {"error": error.flatten(1).mean(dim=1)}

    def panels(self, network: nn.Module, batch: Batch, draw: Tensor | None) -> dict[str, Tensor]:
        return {"original": batch.images, "reconstruction": network.unpatchify(wide(network(batch.images)))}
