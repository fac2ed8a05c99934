"""CRATE and CRATE-MAE written by hand, under the official names, in the shapes that the stored numbers do not cover.

It is a reference for tests only: itself checked against the stored numbers, then used for rectangular images and
patches, other channel counts, mean pooling, K * p different from d, and decoders with a depth and heads of their own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PreNorm(nn.Module):
    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(dim), fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Attention(nn.Module):
    """MSSA with one shared projection and a free output map (Identity for one head as wide as the tokens)."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, dim_head**-0.5
        self.qkv = nn.Linear(dim, heads * dim_head, bias=False)
        free = not (heads == 1 and dim_head == dim)
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim)) if free else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        w = self.qkv(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        attention = (w @ w.transpose(-1, -2) * self.scale).softmax(-1)
        return self.to_out((attention @ w).transpose(1, 2).flatten(2))


class Ista(nn.Module):
    def __init__(self, dim: int, lambd: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        nn.init.kaiming_uniform_(self.weight)
        self.lambd = lambd

    def forward(self, x: Tensor) -> Tensor:
        x1 = F.linear(x, self.weight)
        gradient = F.linear(x1, self.weight.t()) - F.linear(x, self.weight.t())
        return F.relu(x - 0.1 * gradient - 0.1 * self.lambd)


class Synthesis(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


def encoder_layer(dim: int, heads: int, dim_head: int, lambd: float) -> nn.ModuleList:
    return nn.ModuleList([PreNorm(dim, Attention(dim, heads, dim_head)), PreNorm(dim, Ista(dim, lambd))])


def decoder_layer(dim: int, heads: int, dim_head: int) -> nn.ModuleList:
    return nn.ModuleList([PreNorm(dim, Synthesis(dim)), PreNorm(dim, Attention(dim, heads, dim_head))])


def patchify(images: Tensor, ph: int, pw: int) -> Tensor:
    """(batch, c, h, w) -> (batch, N, ph * pw * c), pixels in the order row, column, channel."""
    b, c, h, w = images.shape
    return images.reshape(b, c, h // ph, ph, w // pw, pw).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, ph * pw * c)


class Crate(nn.Module):
    """The classifier of `model/crate.py`."""

    def __init__(self, image: tuple[int, int], patch: tuple[int, int], channels: int, classes: int, dim: int,
                 depth: int, heads: int, dim_head: int, pool: str) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.pool = patch, pool
        count, size = (image[0] // patch[0]) * (image[1] // patch[1]), patch[0] * patch[1] * channels
        self.to_patch_embedding = nn.Sequential(
            nn.Identity(), nn.LayerNorm(size), nn.Linear(size, dim), nn.LayerNorm(dim)
        )
        self.pos_embedding = nn.Parameter(torch.randn(1, count + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(encoder_layer(dim, heads, dim_head, 0.1) for _ in range(depth))
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    def forward(self, images: Tensor) -> Tensor:
        x = self.to_patch_embedding(patchify(images, *self.patch))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        for attention, ista in self.transformer.layers:
            x = ista(attention(x) + x)
        return self.mlp_head(x.mean(1) if self.pool == "mean" else x[:, 0])


class CrateMae(nn.Module):
    """`MaskedAutoencoderViT` of `model/crate_ae/crate_ae.py` with CRATE blocks; positions are given."""

    def __init__(self, image: tuple[int, int], patch: tuple[int, int], channels: int, dim: int, depth: int, heads: int,
                 decoder_depth: int, decoder_heads: int) -> None:  # fmt: skip
        super().__init__()
        self.patch = patch
        count, size = (image[0] // patch[0]) * (image[1] // patch[1]), patch[0] * patch[1] * channels
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(channels, dim, patch, patch)
        self.cls_token, self.mask_token = (nn.Parameter(0.2 * torch.randn(1, 1, dim)) for _ in range(2))
        self.decoder_pos_embed = nn.Parameter(torch.randn(1, count + 1, dim), requires_grad=False)
        self.pos_embed = nn.Parameter(self.decoder_pos_embed.clone(), requires_grad=False)
        self.blocks = nn.ModuleList(self.block(encoder_layer(dim, heads, dim // heads, 0.5)) for _ in range(depth))
        layers = (decoder_layer(dim, decoder_heads, dim // decoder_heads) for _ in range(decoder_depth))
        self.decoder_blocks = nn.ModuleList(map(self.block, layers))
        self.norm, self.decoder_norm = nn.LayerNorm(dim, eps=1e-6), nn.LayerNorm(dim, eps=1e-6)
        self.decoder_embed = nn.Linear(dim, dim)  # dead in the official code too
        self.decoder_pred = nn.Linear(dim, size)

    @staticmethod
    def block(layer: nn.ModuleList) -> nn.Module:
        block = nn.Module()
        block.layers = nn.ModuleList([layer])
        return block

    def forward(self, images: Tensor, noise: Tensor, mask_ratio: float = 0.75) -> tuple[Tensor, Tensor]:
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        keep = int(x.shape[1] * (1 - mask_ratio))
        rank = noise.argsort(dim=1).argsort(dim=1)
        mask = (rank >= keep).to(x.dtype)
        x = torch.where(mask[..., None] > 0, self.mask_token, x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.decoder_pos_embed
        for block in self.blocks:
            attention, ista = block.layers[0]
            x = ista(attention(x) + x)
        x = self.norm(x)
        for block in self.decoder_blocks:
            synthesis, attention = block.layers[0]
            x = synthesis(x)
            x = x - attention(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:], mask


def perturb(network: nn.Module, seed: int) -> None:
    """Move every parameter off its start, so that no gain is 1 and no bias 0."""
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.from_numpy(generator.standard_normal(tuple(parameter.shape))).to(parameter)
