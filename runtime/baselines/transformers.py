"""Black boxes for masked images and for text, of the blocks of the vision transformer: BEiT's way of masking in a
transformer as deep as encoder and decoder together (Bao et al. 2022), and GPT-2 (Radford et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.baselines.vit import Block


class MaskedTransformer(nn.Module):
    """Predicts all patches of an image; removed ones are a mask token in every block."""

    task = "mae"
    input = "image"

    def __init__(self, like: nn.Module, width: int, depth: int, heads: int, sigma: float) -> None:
        super().__init__()
        self.mask_ratio, self.patchify = like.mask_ratio, like.patchify
        pixels = like.patch_size[0] * like.patch_size[1] * like.channels
        patches = (like.image_size[0] // like.patch_size[0]) * (like.image_size[1] // like.patch_size[1])
        self.projection = nn.Linear(pixels, width)
        self.class_token, self.mask_token = (nn.Parameter(sigma * torch.randn(1, 1, width)) for _ in range(2))
        self.position = nn.Parameter(sigma * torch.randn(1, patches + 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, pixels)

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """All patches, (batch, N, pixels), and the mask, (batch, N), 1 where one was removed."""
        tokens = self.projection(self.patchify(images))
        keep = int(tokens.shape[1] * (1 - self.mask_ratio))
        mask = (noise.argsort(dim=1).argsort(dim=1) >= keep).to(tokens.dtype)
        tokens = torch.where(mask[..., None] > 0, self.mask_token.to(tokens.dtype), tokens)
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, 1:])), mask


class TextTransformer(nn.Module):
    """Predicts every token from those before it; logits by the transposed embedding."""

    task = "language"
    input = "text"
    causal = True

    def __init__(self, like: nn.Module, width: int, depth: int, heads: int, sigma: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(like.vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=sigma)
        self.position = nn.Parameter(sigma * torch.randn(1, like.token_count, width))
        self.blocks = nn.ModuleList(Block(width, heads, causal=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, text: Tensor) -> Tensor:
        """Logits of every token, (batch, N, vocabulary)."""
        tokens = self.embedding(text) + self.position[:, : text.shape[1]]
        for block in self.blocks:
            tokens = block(tokens)
        return F.linear(self.norm(tokens), self.embedding.weight)
