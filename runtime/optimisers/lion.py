"""Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2), from lion-pytorch."""

from __future__ import annotations

from typing import Literal

from lion_pytorch import Lion as Signed
from pydantic import Field
from torch import nn

from runtime.optimisers.optimiser import Betas, Optimiser


class Lion(Optimiser):
    """The sign of an interpolated momentum; its authors advise 3 to 10 times less lr and more decay than for AdamW."""

    name: Literal["lion"] = "lion"
    lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.5, ge=0)
    betas: Betas = (0.9, 0.99)

    def build(self, network: nn.Module) -> Signed:
        return Signed(self.groups(network), lr=self.lr, betas=self.betas)
