"""CRATE on text written by hand: the causal language model and the masked one, for tests only.

The layers are those of `runtime/baselines/official.py` but for the mask of the attention, written out as minus
infinity above the diagonal, and a nanoGPT frame: token embedding, learned positions, last norm, logits by the
transposed embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from runtime.baselines.official import Ista, PreNorm


class TextAttention(nn.Module):
    """MSSA whose queries see all keys, or only those up to their own place."""

    def __init__(self, dim: int, heads: int, causal: bool, bias: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        w = self.qkv(x).view(batch, length, self.heads, dim // self.heads)
        scores = torch.einsum("bqhp,bkhp->bhqk", w, w) / (dim // self.heads) ** 0.5
        if self.causal:
            for query in range(length):
                scores[:, :, query, query + 1 :] = -torch.inf
        mixed = torch.einsum("bhqk,bkhp->bqhp", scores.softmax(-1), w)
        return self.to_out(mixed.reshape(batch, length, dim))


class CrateText(nn.Module):
    """`causal` is the language model; without it a norm follows the embedding, and given tokens are masked."""

    def __init__(self, length: int, vocabulary: int, dim: int, depth: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, dim), nn.Embedding(length, dim)
        self.mask_token = None if causal else nn.Parameter(torch.randn(dim))
        self.ln_in = nn.Identity() if causal else nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            nn.ModuleList([PreNorm(dim, TextAttention(dim, heads, causal, causal)), PreNorm(dim, Ista(dim, 0.1))])
            for _ in range(depth)
        )
        self.ln_f = nn.LayerNorm(dim)

    def forward(self, text: Tensor, hidden: Tensor | None = None) -> Tensor:
        x = self.wte(text)
        if hidden is not None:
            x = torch.where(hidden[..., None], self.mask_token, x)
        x = self.ln_in(x + self.wpe(torch.arange(text.shape[1])))
        for attention, ista in self.layers:
            x = ista(attention(x) + x)
        return self.ln_f(x) @ self.wte.weight.T
