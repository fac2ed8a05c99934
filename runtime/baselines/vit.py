"""The black box to compare with: a vision transformer of the same width, depth and heads (Dosovitskiy et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SelfAttention(nn.Module):
    """Multi-head self-attention with queries, keys and values of their own, as wide together as the tokens."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:  # (batch, N, width)
        batch, count, width = tokens.shape
        shape = batch, count, 3, self.heads, width // self.heads
        q, k, v = self.qkv(tokens).reshape(shape).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))


def perceptron(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    """Pre-norm attention and a GELU perceptron of four times the width, a skip around each."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, causal)
        self.norm_perceptron = nn.LayerNorm(width)
        self.perceptron = perceptron(width)

    def forward(self, tokens: Tensor) -> Tensor:  # (batch, N, width)
        tokens = tokens + self.attention(self.norm_attention(tokens))
        return tokens + self.perceptron(self.norm_perceptron(tokens))


class VisionTransformer(nn.Module):
    """A classifier that offers what a compiled network offers, sized like a given one; its parts are named alike."""

    task = "classify"
    input = "image"
    mask_ratio = None

    def __init__(self, like: nn.Module, width: int, depth: int, heads: int, sigma: float) -> None:
        super().__init__()
        self.image_size, self.patch_size = like.image_size, like.patch_size
        self.channels, self.classes = like.channels, like.classes
        pixels = like.patch_size[0] * like.patch_size[1] * like.channels
        patches = (like.image_size[0] // like.patch_size[0]) * (like.image_size[1] // like.patch_size[1])
        self.patchify = like.patchify
        self.patches = nn.Linear(pixels, width)
        self.class_token = nn.Parameter(sigma * torch.randn(1, 1, width))
        self.position = nn.Parameter(sigma * torch.randn(1, patches + 1, width))
        self.encoder = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.encoder_norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, like.classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder_norm(list(self.walk(images).values())[-1][:, 0]))

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """The tokens after every block and after the norm, (batch, tokens, width), by name."""
        found = self.walk(images)
        return found | {"encoder_norm": self.encoder_norm(list(found.values())[-1])}

    def walk(self, images: Tensor) -> dict[str, Tensor]:
        """The tokens after every block, by name; the head's norm is left to who reads them."""
        tokens = self.patches(self.patchify(images))
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.position
        named = {"tokens": tokens}
        for number, block in enumerate(self.encoder):
            tokens = block(tokens)
            named[f"encoder.{number}"] = tokens
        return named
