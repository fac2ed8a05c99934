"""Stochastic gradient descent with momentum (Sutskever et al. 2013)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from runtime.optimisers.optimiser import Optimiser


class SGD(Optimiser):
    """From torch: momentum without damping; the weight decay is part of the gradient, so it enters the momentum."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def consistent(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def build(self, network: nn.Module) -> torch.optim.SGD:
        return torch.optim.SGD(self.groups(network), lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)
