"""The averaged weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


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
