"""Classification by cross-entropy."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.tasks.task import Call, Task, wide


class Classify(Task):
    """Cross-entropy with label smoothing; the score is the share of images whose first guess is right.

    Labels of mixed images are probabilities (batch, classes), which are smoothed too.
    """

    name: Literal["classify"] = "classify"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    networks: ClassVar = ("classify",)
    metric: ClassVar = "accuracy"
    larger_is_better: ClassVar = True

    def check(self, network: nn.Module, classes: int | None) -> None:
        super().check(network, classes)
        if classes is None:
            raise UserError("task classify needs data with classes")
        if network.classes != classes:
            raise UserError(
                f"the network has {network.classes} classes, the data have {classes}: sizes.classes={classes}"
            )

    def loss(self, call: Call, network: nn.Module, batch: Batch, draw: Tensor | None) -> Tensor:
        logits = wide(call(batch.images))
        labels = batch.labels.to(logits.dtype) if batch.labels.ndim == 2 else batch.labels
        return F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def scores(
        self, network: nn.Module, batch: Batch, draw: Tensor | None, reference: Tensor | None
    ) -> dict[str, Tensor]:
        logits = wide(network(batch.images))
        return {
            "accuracy": (logits.argmax(1) == batch.labels).float(),
            "cross_entropy": F.cross_entropy(logits, batch.labels, reduction="none"),
        }
