"""AdamW (Loshchilov and Hutter 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from runtime.optimisers.optimiser import Betas, Optimiser


class AdamW(Optimiser):
    """Adam with decoupled weight decay, from torch."""

    name: Literal["adamw"] = "adamw"
    betas: Betas = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)

    def build(self, network: nn.Module) -> torch.optim.AdamW:
        return torch.optim.AdamW(self.groups(network), lr=self.lr, betas=self.betas, eps=self.eps)
