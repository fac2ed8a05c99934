"""The schedule of the learning rate."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from runtime.registry import Strict


class Schedule(Strict):
    """Linear warm-up over `warmup` steps or `warmup_epochs` epochs, then `name`; per step.

    A cosine and a line go down to `final` times the peak at the end of the run (Loshchilov and Hutter 2017, without
    restarts; Devlin et al. 2019).
    """

    name: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: int = Field(default=0, ge=0)
    warmup_epochs: float | None = Field(default=None, ge=0)
    final: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def consistent(self) -> Schedule:
        if self.warmup and self.warmup_epochs is not None:
            raise ValueError("at most one of warmup, in steps, and warmup_epochs is given")
        if self.name == "constant" and self.final:
            raise ValueError("a constant learning rate has no final one: leave final out")
        return self

    def warmup_steps(self, steps_per_epoch: int) -> int:
        return self.warmup if self.warmup_epochs is None else round(self.warmup_epochs * steps_per_epoch)

    def rate(self, peak: float, step: int, warmup: int, total: int) -> float:
        """The learning rate of the step 0 .. total - 1, after a warm-up of so many steps."""
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = (step - warmup) / max(1, total - warmup)
        left = {"cosine": (1 + math.cos(math.pi * progress)) / 2, "linear": 1 - progress, "constant": 1.0}[self.name]
        return peak * (self.final + (1 - self.final) * left)
