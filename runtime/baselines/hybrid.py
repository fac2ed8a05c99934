"""CRATE's operators and the transformer's, mixed: what each of them does to a network that is otherwise the same.

Source: the ablation of Yu et al. 2023, arXiv 2308.16271, section 4.3: attention MSSA (one projection for queries, keys
and values) or MHSA (three), then a step of ISTA or a perceptron.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.baselines.official import Attention, Ista, PreNorm
from runtime.baselines.vit import SelfAttention, VisionTransformer, perceptron
from runtime.errors import UserError
from runtime.weights.names import CRATE
from runtime.weights.restoration import restored

LAYERS = "transformer.layers."  # of the official names


@dataclass(frozen=True)
class Operators:
    """Which attention and which map of single tokens a layer has."""

    shared: bool  # MSSA, else MHSA
    sparse: bool  # ISTA, else a perceptron

    @property
    def name(self) -> str:
        return f"{'MSSA' if self.shared else 'MHSA'} + {'ISTA' if self.sparse else 'MLP'}"


COMBINATIONS = tuple(Operators(shared, sparse) for shared in (True, False) for sparse in (True, False))


@dataclass(frozen=True)
class LayerSizes:
    """Width d, heads K with d = K p, number of layers, threshold and step of ISTA."""

    width: int
    heads: int
    depth: int
    threshold: float
    step: float


class SubspaceAttention(Attention):
    """The official MSSA by torch's fused attention, whose weights can be recorded."""

    def forward(self, x: Tensor) -> Tensor:  # (batch, N, dim)
        w = self.qkv(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, N, dim_head)
        mixed = F.scaled_dot_product_attention(w, w, w, scale=self.scale)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.ModuleList):
    """Normed attention with a skip around it, then the normed map: around a perceptron a skip, around ISTA none.

    Two members, named as those of an official layer.
    """

    def __init__(self, operators: Operators, sizes: LayerSizes) -> None:
        width, heads = sizes.width, sizes.heads
        attention = SubspaceAttention(width, heads, width // heads) if operators.shared else SelfAttention(width, heads)
        second = Ista(width, sizes.threshold, sizes.step) if operators.sparse else perceptron(width)
        super().__init__([PreNorm(width, attention), PreNorm(width, second)])
        self.skip = not operators.sparse

    def forward(self, tokens: Tensor) -> Tensor:  # (batch, N, width)
        attention, second = self
        tokens = tokens + attention(tokens)
        return tokens + second(tokens) if self.skip else second(tokens)


class Hybrid(VisionTransformer):
    """The layers of some operators between the stem, class token, positions, norm and head of a compiled CRATE.

    Those start as copies of the compiled network's. With MSSA and ISTA the layers are copies too, so that the whole
    computes what that computes.

    Raises:
        UserError: where the compiled network is not CRATE as its official code has it.
    """

    def __init__(self, like: nn.Module, operators: Operators, sizes: LayerSizes) -> None:
        super().__init__(like, sizes.width, 0, sizes.heads, sigma=0.0)
        official = restored(like.state_dict(), like, {})
        if official.family is not CRATE or not isinstance(like.position, nn.Parameter):
            raise UserError(f"operators are exchanged in CRATE with learned positions (specs/{CRATE.spec})")
        self.patches, self.encoder_norm, self.head = map(copy.deepcopy, (like.patches, like.encoder_norm, like.head))
        self.class_token, self.position = (nn.Parameter(p.detach().clone()) for p in (like.class_token, like.position))
        self.encoder = nn.ModuleList(Layer(operators, sizes) for _ in range(sizes.depth)).to(like.position.dtype)
        if operators.shared and operators.sparse:
            self.encoder.load_state_dict(layers_of(official.state))


def layers_of(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(LAYERS): value for name, value in official.items() if name.startswith(LAYERS)}


@torch.no_grad()
def require_same(compiled: nn.Module, hybrid: nn.Module, tolerance: float = 1e-6) -> None:
    """Raises UserError where a network's layers are not the official MSSA and ISTA, whatever their matrices are called.

    Compared on one random input in float64, relative to the largest output.
    """
    ours, theirs = (copy.deepcopy(network).double().eval() for network in (compiled, hybrid))
    shape = 2, compiled.channels, *compiled.image_size
    images = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected, found = ours(images), theirs(images)
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= tolerance:
        raise UserError(f"the layers of this spec are not the official MSSA and ISTA: outputs differ by {error:.2g}")
