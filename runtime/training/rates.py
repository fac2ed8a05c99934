"""The learning rate and the weight decay of every step of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from runtime.recipe.schema import Recipe


@dataclass(frozen=True)
class Rates:
    """What a recipe says about them, with epochs counted in steps."""

    recipe: Recipe
    warmup: int
    total: int

    @classmethod
    def of(cls, recipe: Recipe, steps_per_epoch: int) -> Rates:
        return cls(recipe, recipe.schedule.warmup_steps(steps_per_epoch), recipe.total_steps(steps_per_epoch))

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the groups of an optimiser for the step 0 .. total - 1; returns the learning rate of the head."""
        rate, decay = self.learning_rate(step), self.weight_decay(step)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)  # a state of before there were scales has none
            if decay is not None and group["decays"]:
                group["weight_decay"] = decay
        return rate

    def learning_rate(self, step: int) -> float:
        peak = self.recipe.optimizer.peak(self.recipe.batch)
        return self.recipe.schedule.rate(peak, step, self.warmup, self.total)

    def weight_decay(self, step: int) -> float | None:
        """Half a cosine from one to the other over the whole run; None where it stays."""
        start, end = self.recipe.optimizer.weight_decay, self.recipe.optimizer.weight_decay_end
        if end is None:
            return None
        return end + (start - end) * (1 + math.cos(math.pi * step / self.total)) / 2

    def in_words(self) -> str:
        """For instance "lr 4.8e-04 = 3e-05 x 4096 / 256 by adamw, warm-up 12,480 steps, then cosine"."""
        options, batch = self.recipe.optimizer, self.recipe.batch
        rule = "" if options.lr_per is None else f" = {short(options.lr)} x {batch} / {options.lr_per}"
        longer = f" (of {self.total:,}: it does not end)" if self.warmup >= self.total else ""
        warmup = f"warm-up {self.warmup:,} steps{longer}, then " if self.warmup else ""
        return f"lr {short(options.peak(batch))}{rule} by {options.name}, {warmup}{self.recipe.schedule.name}"


def short(number: float) -> str:
    return np.format_float_scientific(number, precision=4, trim="-", exp_digits=2)
