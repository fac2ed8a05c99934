"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) for hidden matrices, AdamW for all else."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from runtime.errors import UserError
from runtime.optimisers.optimiser import Betas, Optimiser
from runtime.training.groups import grouped, hidden
from runtime.training.joint import Joint


class Muon(Optimiser):
    """Momentum, made nearly orthogonal by `iterations` of Newton and Schulz, for the matrices of the blocks.

    AdamW has the rest: patches, embeddings, positions, tokens, norms, scalars and heads. With `match_rms_adamw` steps
    are as large as those of AdamW, so that both can share `lr` (Liu et al. 2025, arXiv 2502.16982); with `original`
    Muon wants about 0.02 and AdamW an `adamw_lr` of its own. Families of subspaces count as one stacked matrix.
    """

    name: Literal["muon"] = "muon"
    weight_decay: float = Field(default=0.1, ge=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    nesterov: bool = True
    iterations: int = Field(default=5, gt=0, lt=100)
    adjust: Literal["original", "match_rms_adamw"] = "match_rms_adamw"
    adamw_lr: float | None = Field(default=None, gt=0)
    betas: Betas = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)

    def build(self, network: nn.Module) -> Joint:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(f"optimizer muon needs torch 2.9 or later, this is {torch.__version__}; take adamw or lion")
        chosen = hidden(network)
        if not chosen:
            raise UserError("optimizer muon: the blocks of this network have no matrices; take adamw")
        ratio = 1.0 if self.adamw_lr is None else self.adamw_lr / self.lr
        rest = {name for name, _ in network.named_parameters()} - chosen
        matrices, others = grouped(network, self, chosen), grouped(network, self, rest, ratio)
        muon = torch.optim.Muon(
            matrices,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            ns_steps=self.iterations,
            adjust_lr_fn=self.adjust,
        )
        adamw = [torch.optim.AdamW(others, lr=self.lr, betas=self.betas, eps=self.eps)] if others else []
        return Joint([muon, *adamw])
