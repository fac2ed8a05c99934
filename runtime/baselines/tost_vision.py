"""ToST on images as its official code computes it, under the official names.

Written by hand after RobinWu218/ToST, tost_vision/tost.py, with `tokens_norm=True` and `qkv_bias=True`, as every model
that it registers, without dropout and stochastic depth. BatchNorm stands for SyncBatchNorm: the same in one process.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.baselines.tost import token_statistics

EPSILON = 1e-6  # of all norms of tokens
HIDDEN, TEMPERATURE = 32, 10000  # of the positions


def linear(inner: int, outer: int) -> nn.Linear:
    """As the official network starts all of them."""
    layer = nn.Linear(inner, outer)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer


class ConvolutionalPatches(nn.Module):
    """3 x 3 convolutions of stride 2, each with BatchNorm, GELU between them: images to tokens, row by row."""

    def __init__(self, channels: int, patch: int, dim: int) -> None:
        super().__init__()
        count = round(math.log2(patch))
        widths = [channels, *(dim // 2 ** (count - 1 - n) for n in range(count))]
        layers: list[nn.Module] = []
        for inner, outer in zip(widths, widths[1:], strict=False):
            convolution = nn.Conv2d(inner, outer, kernel_size=3, stride=2, padding=1, bias=False)
            layers += [nn.Sequential(convolution, nn.BatchNorm2d(outer)), nn.GELU()]
        self.proj = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor) -> tuple[Tensor, int, int]:
        """(batch, N, dim), and the rows and columns of the tokens."""
        x = self.proj(images)
        rows, columns = x.shape[2:]
        return x.reshape(*x.shape[:2], -1).transpose(1, 2), rows, columns


class FourierPositions(nn.Module):
    """Sines and cosines of row and column, up to 2 pi, and a pointwise convolution of them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.token_projection = nn.Conv2d(2 * HIDDEN, dim, kernel_size=1)

    def forward(self, rows: int, columns: int) -> Tensor:  # (1, N, dim)
        inside = torch.ones(1, rows, columns, device=self.token_projection.weight.device)
        step = torch.arange(HIDDEN, dtype=torch.float32, device=inside.device)
        period = TEMPERATURE ** (2 * torch.div(step, 2, rounding_mode="floor") / HIDDEN)
        waves = []
        for axis in (1, 2):
            place = inside.cumsum(axis)
            place = place / (place.narrow(axis, -1 % place.shape[axis], 1) + EPSILON) * (2 * math.pi)
            angle = place[..., None] / period
            waves.append(torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=4).flatten(3))
        image = torch.cat(waves, dim=3).permute(0, 3, 1, 2).to(self.token_projection.weight)
        return self.token_projection(image).flatten(2).transpose(1, 2)


class Statistics(nn.Module):
    """Token statistics of all tokens."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.to_out = linear(dim, dim), nn.Sequential(linear(dim, dim), nn.Identity())
        self.temp = nn.Parameter(torch.ones(heads, 1))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        w = self.qkv(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, N, dim / heads)
        return self.to_out(token_statistics(w, self.temp).transpose(1, 2).flatten(2))


class ClassAttention(nn.Module):
    """The first token becomes what it reads of all; the others stay as they came."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj = linear(dim, 3 * dim), linear(dim, dim)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:  # (batch, 1 + N, dim)
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = (q[:, :, :1] * k).sum(-1) / math.sqrt(k.shape[-1])  # (batch, heads, 1 + N)
        read = torch.einsum("bhn,bhnp->bhp", scores.softmax(-1), v).flatten(1)
        return torch.cat((self.proj(read).unsqueeze(1), x[:, 1:]), dim=1)


class Perceptron(nn.Module):
    """GELU between two linear maps, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = linear(dim, 4 * dim), linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """What both kinds of blocks have: attention and perceptron, a norm before and a scale per feature behind each."""

    def __init__(self, dim: int, attention: nn.Module, scale: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=EPSILON), nn.LayerNorm(dim, eps=EPSILON)
        self.attn, self.mlp = attention, Perceptron(dim)
        self.gamma1, self.gamma2 = (nn.Parameter(torch.full((dim,), scale)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        x = x + self.gamma1 * self.attn(self.norm1(x))
        return x + self.gamma2 * self.mlp(self.norm2(x))


class ClassBlock(Block):
    """The perceptron acts on the class token alone; the norm before it replaces all tokens, which are then doubled."""

    def forward(self, x: Tensor) -> Tensor:  # (batch, 1 + N, dim)
        x = self.norm2(x + self.gamma1 * self.attn(self.norm1(x)))
        return x + torch.cat((self.gamma2 * self.mlp(x[:, :1]), x[:, 1:]), dim=1)


class TostVision(nn.Module):
    """The classifier; `scale` is that of all blocks at the start, 1e-5 in networks of 24 layers."""

    def __init__(
        self, channels: int, patch: int, classes: int, dim: int, depth: int, heads: int, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.patch_embed = ConvolutionalPatches(channels, patch, dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(Block(dim, Statistics(dim, heads), scale) for _ in range(depth))
        self.cls_attn_blocks = nn.ModuleList(ClassBlock(dim, ClassAttention(dim, heads), scale) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(dim, eps=EPSILON), linear(dim, classes)
        self.pos_embeder = FourierPositions(dim)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        x, rows, columns = self.patch_embed(images)
        x = x + self.pos_embeder(rows, columns)
        for block in self.blocks:
            x = block(x)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1)
        for block in self.cls_attn_blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])
