"""SimDINO: self-distillation that is kept from collapse by the coding rate (Wu et al. 2025, arXiv 2502.10385)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor

from runtime.data.source import Batch
from runtime.parallel import joined
from runtime.scoring.coding_rate import coding_rate
from runtime.self_supervision.distillation import Distillation, other_views
from runtime.self_supervision.self_supervised import SelfDistillation
from runtime.self_supervision.views import GLOBAL
from runtime.tasks.task import Call

UNUSED = 65536  # prototypes, in recipes that earlier versions wrote


class SimDino(SelfDistillation):
    """-`coefficient` * cosine similarity of different views - gamma * coding rate of the global views of a batch.

    `distortion` is eps^2 of the paper's R = 1/2 logdet(I + d / (n eps^2) F' F), the option `eps` of the official code
    (0.5 by default there, 0.05 in its command for ViT-B). `gamma` is that code's (d + n) / (d n) unless it is given.
    With `smooth` the rate is that of the mean of the student's and the teacher's vectors (its `expa_type` 1).
    """

    name: Literal["simdino"] = "simdino"
    whole_batch: ClassVar = True
    coefficient: float = Field(default=1.0, ge=0)
    distortion: float = Field(default=0.5, gt=0)
    gamma: float | None = Field(default=None, ge=0)
    smooth: bool = True

    @field_validator("head", mode="before")
    @classmethod
    def without_prototypes(cls, head: object) -> object:
        """Runs of earlier versions state the default number of prototypes, which they did not have."""
        if isinstance(head, dict) and head.get("prototypes") == UNUSED:
            return {name: value for name, value in head.items() if name != "prototypes"}
        return head

    def loss(self, call: Call, network: Distillation, batch: Batch, draw: Tensor) -> Tensor:
        student, teacher = self.outputs(call, network, batch, draw)
        similar = similarity(student, teacher)
        seen, teacher = joined(student[:GLOBAL], dim=1), joined(teacher, dim=1)
        rate = coding_rate((seen + teacher) / 2 if self.smooth else seen, self.distortion).mean()
        network.note(similarity=similar, batch_coding_rate=rate)
        return -self.coefficient * similar - self.weight(*seen.shape[1:]) * rate

    def weight(self, count: int, width: int) -> float:
        return (width + count) / (width * count) if self.gamma is None else self.gamma


def similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean cosine over all pairs of different views; unit vectors (views, batch, d)."""
    pairs = other_views(len(teacher), len(student))
    return torch.stack([(teacher[t] * student[s]).sum(-1).mean() for t, s in pairs]).mean()
