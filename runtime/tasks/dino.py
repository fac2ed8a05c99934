"""DINO: self-distillation with prototypes, centring and sharpening (Caron et al. 2021, arXiv 2104.14294)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from runtime.data.source import Batch
from runtime.self_supervision.distillation import Distillation, Prototypes, other_views
from runtime.self_supervision.self_supervised import SelfDistillation
from runtime.tasks.task import Call


class Dino(SelfDistillation):
    """Cross-entropy between the teacher's and the student's distribution over prototypes, of different views.

    The teacher's outputs are centred by their moving average and sharpened by a temperature, which rises from
    `warmup_teacher_temperature` to `teacher_temperature` in the first `warmup_steps` steps. The logged entropies guard
    against collapse: 0 of a single output is collapse to a point; log(prototypes) of a single one, to the uniform.
    """

    name: Literal["dino"] = "dino"
    head: Prototypes = Prototypes()
    student_temperature: float = Field(default=0.1, gt=0)
    teacher_temperature: float = Field(default=0.04, gt=0)
    warmup_teacher_temperature: float = Field(default=0.04, gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    centre_momentum: float = Field(default=0.9, ge=0, lt=1)

    def loss(self, call: Call, network: Distillation, batch: Batch, draw: Tensor) -> Tensor:
        student, teacher = self.outputs(call, network, batch, draw)
        target = F.softmax((teacher - network.centre) / self.temperature(network.steps), dim=-1)
        network.note(teacher=teacher.mean((0, 1)), target=target.mean((0, 1)), teacher_entropy=entropy(target).mean())
        return cross_entropy(F.log_softmax(student / self.student_temperature, dim=-1), target)

    def temperature(self, steps: Tensor) -> Tensor:
        """The teacher's, after so many steps: linear, then constant."""
        start, end = self.warmup_teacher_temperature, self.teacher_temperature
        return start + (end - start) * (steps.double() / max(1, self.warmup_steps)).clamp(max=1)

    def after_step(self, trained: Distillation, step: int, total: int) -> dict[str, float]:
        trained.recentre(self.centre_momentum)
        spread = {"mean_output_entropy": entropy(trained.noted("target")).item()}
        return super().after_step(trained, step, total) | spread


def entropy(distribution: Tensor) -> Tensor:
    """In nats, of distributions along the last axis."""
    return torch.special.entr(distribution).sum(-1)


def cross_entropy(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over all pairs of different views; log-probabilities and probabilities (views, batch, prototypes)."""
    pairs = other_views(len(teacher), len(student))
    return torch.stack([-(teacher[t] * student[s]).sum(-1).mean() for t, s in pairs]).mean()
