"""CRATE, CRATE-MAE and a causal CRATE on text as their official code computes them, under the official names.

What a compiled network is measured against: three d x d products per sparsification, the matrices of the softmax in
memory, a read-out of its own with a bias, dropout of rate 0 where it stands officially. Written by hand after
Ma-Lab-Berkeley/CRATE at 674408f, model/crate.py and model/crate_ae; the causal network (Yu et al. 2023, arXiv
2311.13110, and the authors' book, chapter 7) is that of model/crate_gpt.py but for a norm before the head, as nanoGPT
has one, and for how maps start: its layers are those of the classifier with later tokens masked.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEP = 0.1  # of ISTA


class PreNorm(nn.Module):
    """A map of normalised tokens, (batch, N, dim) to (batch, N, dim)."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(dim), fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class Attention(nn.Module):
    """MSSA with one shared projection and a free output map (Identity for one head as wide as the tokens).

    Where it is causal the scores of later tokens are set to minus infinity.
    """

    def __init__(self, dim: int, heads: int, dim_head: int, causal: bool = False, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.scale, self.causal = heads, dim_head**-0.5, causal
        self.attend, self.dropout = nn.Softmax(dim=-1), nn.Dropout(0.0)
        self.qkv = nn.Linear(dim, heads * dim_head, bias=False)
        free = not (heads == 1 and dim_head == dim)
        out = nn.Linear(heads * dim_head, dim, bias=bias)
        self.to_out = nn.Sequential(out, nn.Dropout(0.0)) if free else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        w = self.qkv(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, N, dim_head)
        scores = w @ w.transpose(-1, -2) * self.scale  # (batch, heads, N, N)
        if self.causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        attention = self.dropout(self.attend(scores))
        return self.to_out((attention @ w).transpose(1, 2).flatten(2))


class Ista(nn.Module):
    """One step of ISTA towards a nonnegative code: a gradient step of three products with the dictionary, then ReLU."""

    def __init__(self, dim: int, lambd: float, step: float = STEP) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        nn.init.kaiming_uniform_(self.weight)
        self.lambd, self.step = lambd, step

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        x1 = F.linear(x, self.weight)
        gradient = F.linear(x1, self.weight.t()) - F.linear(x, self.weight.t())
        return F.relu(x - self.step * gradient - self.step * self.lambd)


class Synthesis(nn.Module):
    """The dictionary applied to a code, the first half of a decoder's layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        nn.init.kaiming_uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        return F.linear(x, self.weight)


def encoder_layer(
    dim: int, heads: int, dim_head: int, lambd: float, step: float = STEP, causal: bool = False
) -> nn.ModuleList:
    """Attention and ISTA; the skip around the attention is the network's."""
    attention = Attention(dim, heads, dim_head, causal)
    return nn.ModuleList([PreNorm(dim, attention), PreNorm(dim, Ista(dim, lambd, step))])


def decoder_layer(dim: int, heads: int, dim_head: int) -> nn.ModuleList:
    return nn.ModuleList([PreNorm(dim, Synthesis(dim)), PreNorm(dim, Attention(dim, heads, dim_head))])


def patchify(images: Tensor, ph: int, pw: int) -> Tensor:
    """(batch, c, h, w) -> (batch, N, ph * pw * c), pixels in the order row, column, channel."""
    b, c, h, w = images.shape
    return images.reshape(b, c, h // ph, ph, w // pw, pw).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, ph * pw * c)


class Crate(nn.Module):
    """The classifier of `model/crate.py`; `pool` is "cls" or "mean"."""

    def __init__(self, image: tuple[int, int], patch: tuple[int, int], channels: int, classes: int, dim: int,
                 depth: int, heads: int, dim_head: int, pool: str, lambd: float = 0.1, step: float = STEP,
                 ) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.pool = patch, pool
        count, size = (image[0] // patch[0]) * (image[1] // patch[1]), patch[0] * patch[1] * channels
        self.to_patch_embedding = nn.Sequential(
            nn.Identity(), nn.LayerNorm(size), nn.Linear(size, dim), nn.LayerNorm(dim)
        )
        self.pos_embedding = nn.Parameter(torch.randn(1, count + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.dropout = nn.Dropout(0.0)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(encoder_layer(dim, heads, dim_head, lambd, step) for _ in range(depth))
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        x = self.to_patch_embedding(patchify(images, *self.patch))
        x = self.dropout(torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding)
        for attention, ista in self.transformer.layers:
            x = ista(attention(x) + x)
        return self.mlp_head(x.mean(1) if self.pool == "mean" else x[:, 0])


class CrateMae(nn.Module):
    """`MaskedAutoencoderViT` of `model/crate_ae/crate_ae.py` with CRATE blocks; positions are given."""

    def __init__(self, image: tuple[int, int], patch: tuple[int, int], channels: int, dim: int, depth: int, heads: int,
                 decoder_depth: int, decoder_heads: int, lambd: float = 0.5, step: float = STEP,
                 mask_ratio: float = 0.75) -> None:  # fmt: skip
        super().__init__()
        self.patch, self.mask_ratio = patch, mask_ratio
        count, size = (image[0] // patch[0]) * (image[1] // patch[1]), patch[0] * patch[1] * channels
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(channels, dim, patch, patch)
        self.cls_token, self.mask_token = (nn.Parameter(0.2 * torch.randn(1, 1, dim)) for _ in range(2))
        self.decoder_pos_embed = nn.Parameter(torch.randn(1, count + 1, dim), requires_grad=False)
        self.pos_embed = nn.Parameter(self.decoder_pos_embed.clone(), requires_grad=False)
        layers = (encoder_layer(dim, heads, dim // heads, lambd, step) for _ in range(depth))
        self.blocks = nn.ModuleList(map(self.block, layers))
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

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """All patches, (batch, N, pixels), and the mask, (batch, N), 1 where one was removed."""
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        keep = int(x.shape[1] * (1 - self.mask_ratio))
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


class CrateText(nn.Module):
    """The causal language model: every token attends to those up to itself; logits by the transposed embedding."""

    def __init__(self, length: int, vocabulary: int, dim: int, depth: int, heads: int, dim_head: int,
                 lambd: float = 0.1, step: float = STEP) -> None:  # fmt: skip
        super().__init__()
        self.token_embedding = nn.Embedding(vocabulary, dim)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.pos_embedding = nn.Parameter(0.02 * torch.randn(1, length, dim))
        self.dropout = nn.Dropout(0.0)
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList(
            encoder_layer(dim, heads, dim_head, lambd, step, causal=True) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, text: Tensor) -> Tensor:
        """Logits of every token, (batch, N, vocabulary)."""
        x = self.dropout(self.token_embedding(text) + self.pos_embedding[:, : text.shape[1]])
        for attention, ista in self.transformer.layers:
            x = ista(attention(x) + x)
        return F.linear(self.norm(x), self.token_embedding.weight)
