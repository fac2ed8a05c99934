"""ToST as a language model as its official code computes it, under the official names.

Written by hand after RobinWu218/ToST at 071ea98, tost_lang/model_TSSA.py, with `TSSA=True` and biases, without dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runtime.baselines.tost import causal_token_statistics

LAYER_SCALE = 1e-5


class Statistics(nn.Module):
    """Token statistics of the past, with a bias for every head and place in the memberships."""

    def __init__(self, dim: int, heads: int, length: int) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.temp = nn.Parameter(torch.ones(heads, 1))
        self.denom_bias = nn.Parameter(torch.zeros(heads, length, 1))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        w = self.c_attn(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, N, dim / heads)
        y = causal_token_statistics(w, self.temp[:, None], self.denom_bias[:, : x.shape[1]])
        return self.c_proj(y.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """GELU between two linear maps, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.c_fc, self.gelu, self.c_proj = nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        return self.c_proj(self.gelu(self.c_fc(x)))


class Block(nn.Module):
    """Statistics and perceptron behind norms, each with a skip and a scale per feature."""

    def __init__(self, dim: int, heads: int, length: int) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(dim), Statistics(dim, heads, length)
        self.ln_2, self.mlp = nn.LayerNorm(dim), Perceptron(dim)
        self.gamma1, self.gamma2 = (nn.Parameter(torch.full((dim,), LAYER_SCALE)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        x = x + self.gamma1 * self.attn(self.ln_1(x))
        return x + self.gamma2 * self.mlp(self.ln_2(x))


class TostText(nn.Module):
    """The causal language model; `lm_head` is the embedding."""

    def __init__(self, length: int, vocabulary: int, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocabulary, dim),
                "wpe": nn.Embedding(length, dim),
                "h": nn.ModuleList(Block(dim, heads, length) for _ in range(depth)),
                "ln_f": nn.LayerNorm(dim),
            }
        )
        self.lm_head = nn.Linear(dim, vocabulary, bias=False)
        self.transformer["wte"].weight = self.lm_head.weight

    def forward(self, text: Tensor) -> Tensor:
        """Logits of every token, (batch, N, vocabulary)."""
        parts = self.transformer
        x = parts["wte"](text) + parts["wpe"](torch.arange(text.shape[1], device=text.device))
        for block in parts["h"]:
            x = block(x)
        return self.lm_head(parts["ln_f"](x))
