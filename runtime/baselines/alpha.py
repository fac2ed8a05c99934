"""CRATE-alpha as its official code computes it, under the official names.

Written by hand after UCSC-VLAA/CRATE-alpha at edbd624, torch_inference/model/crate_alpha.py: attention without biases,
two steps of ISTA from zero in an over-complete dictionary, a read-out of its own and a skip around both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.baselines.official import STEP, Attention, PreNorm

OVERCOMPLETE = 4
NORM_EPS = 1e-6  # of the layers; the head has torch's own


class Odl(nn.Module):
    """Two nonnegative ISTA steps from zero with the dictionary D, read out through D1, both (dim, 4 dim)."""

    def __init__(self, dim: int, lambd: float, step: float = STEP) -> None:
        super().__init__()
        self.D, self.D1 = (nn.Parameter(torch.empty(dim, OVERCOMPLETE * dim)) for _ in range(2))
        nn.init.kaiming_uniform_(self.D)
        nn.init.kaiming_uniform_(self.D1)
        self.lambd, self.step = lambd, step

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        code = F.relu(self.step * (x @ self.D) - self.step * self.lambd)
        code = F.relu(code - self.step * ((code @ self.D.t() - x) @ self.D) - self.step * self.lambd)
        return code @ self.D1.t()


class CrateAlpha(nn.Module):
    """The classifier; patches are embedded by a convolution, the class token is read."""

    def __init__(self, image: tuple[int, int], patch: tuple[int, int], channels: int, classes: int, dim: int,
                 depth: int, heads: int, dim_head: int, lambd: float = 0.1, step: float = STEP) -> None:  # fmt: skip
        super().__init__()
        count = (image[0] // patch[0]) * (image[1] // patch[1])
        self.conv1 = nn.Conv2d(channels, dim, patch, patch)
        self.pos_embedding = nn.Parameter(torch.randn(1, count + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(self.layer(dim, heads, dim_head, lambd, step) for _ in range(depth))
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    @staticmethod
    def layer(dim: int, heads: int, dim_head: int, lambd: float, step: float) -> nn.ModuleList:
        attention, code = PreNorm(dim, Attention(dim, heads, dim_head, bias=False)), PreNorm(dim, Odl(dim, lambd, step))
        attention.norm.eps = code.norm.eps = NORM_EPS
        return nn.ModuleList([attention, code])

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        x = self.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        for attention, code in self.transformer.layers:
            x = x + attention(x)
            x = x + code(x)
        return self.mlp_head(x[:, 0])
