"""AdamW with groups, the learning rate of a step, and the averaged weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from runtime.recipe.schema import Optimizer, Schedule

UNDECAYED = ("class_token", "mask_token", "position")  # matrices by shape, but offsets by role


def adamw(network: nn.Module, options: Optimizer) -> torch.optim.AdamW:
    """AdamW; weight decay for the matrices only, unless the recipe decays all.

    Learned numbers are groups of their own, since FSDP does not slice them and one update cannot mix the two kinds.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, value in network.named_parameters():
        if value.requires_grad:
            decayed = options.decay_all or is_matrix(name, value)
            groups.setdefault((not decayed, value.ndim == 0), []).append(value)
    return torch.optim.AdamW(
        [{"params": groups[kind], "weight_decay": 0.0 if kind[0] else options.weight_decay} for kind in sorted(groups)],
        lr=options.lr,
        betas=options.betas,
        eps=options.eps,
    )


def is_matrix(name: str, value: Tensor) -> bool:
    return value.ndim >= 2 and not set(name.split(".")) & set(UNDECAYED)


def learning_rate(base: float, schedule: Schedule, step: int, total: int) -> float:
    """The rate of step 0 .. total - 1: linear warm-up, then half a cosine."""
    if step < schedule.warmup:
        return base * (step + 1) / schedule.warmup
    progress = (step - schedule.warmup) / max(1, total - schedule.warmup)
    return base * (schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2)


class Average:
    """Exponential moving average of a network's floating-point state, with the short memory of a young run.

    The decay of update t is min(decay, (1 + t) / (10 + t)), so that the start is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, value in network.state_dict().items():
            self.values[name].lerp_(value, weight) if value.is_floating_point() else self.values[name].copy_(value)

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self.updates = state["updates"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)
