"""Names and layouts of the official state dicts beside those of compiled networks: one table, one line per family.

A compiled layer is found by position, not by name: `encoder.I.J` is the J-th step of layer I, whatever the spec calls
it; `matrix`, `matrix_out` and `matrix_bias` are the step's parameter and, where its adjoint is free, the outer one and
its bias; `second` is the next parameter of its own, that of a decoupled read-out. Sources: Ma-Lab-Berkeley/CRATE at
674408f, model/crate.py and model/crate_ae; UCSC-VLAA/CRATE-alpha at edbd624, torch_inference/model/crate_alpha.py. The
causal network on text has no official code: its names are those of `baselines/official.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """Official names that match `pattern` hold `target`, a template of its groups, after `transform`."""

    pattern: str
    target: str
    transform: Callable[[Tensor], Tensor]

    def apply(self, name: str) -> str | None:
        found = re.fullmatch(self.pattern, name)
        return found.expand(self.target) if found else None


def as_is(value: Tensor) -> Tensor:
    return value


def transposed(value: Tensor) -> Tensor:
    """(d, K p) of a linear layer to the stacked transposes (K p, d) of a family."""
    return value.T


def flattened(value: Tensor) -> Tensor:
    """A patch convolution (d, channels, rows, columns) to (d, rows * columns * channels), the order inside a patch."""
    return value.permute(0, 2, 3, 1).flatten(1) if value.ndim == 4 else value


LAYERS = r"(?:transformer\.layers\.(\d+)|blocks\.(\d+)\.layers\.0)"
DECODER = r"decoder_blocks\.(\d+)\.layers\.0"

RULES = (
    # tokens
    Rule(r"token_embedding\.weight", "embedding.weight", as_is),
    Rule(r"pos_embedding|decoder_pos_embed", "position", as_is),
    Rule(r"cls_token", "class_token", as_is),
    Rule(r"mask_token", "mask_token", as_is),
    Rule(r"to_patch_embedding\.1\.(weight|bias)", r"patches.norm_in.\1", as_is),
    Rule(r"to_patch_embedding\.2\.(weight|bias)", r"patches.projection.\1", as_is),
    Rule(r"to_patch_embedding\.3\.(weight|bias)", r"patches.norm_out.\1", as_is),
    Rule(r"(?:patch_embed\.proj|conv1)\.weight", "patches.projection.weight", flattened),
    Rule(r"(?:patch_embed\.proj|conv1)\.bias", "patches.projection.bias", as_is),
    # layers: U is `qkv`, the outer matrix `to_out`, the dictionary a bare `weight`
    Rule(rf"{LAYERS}\.(\d+)\.norm\.(weight|bias)", r"encoder.\1\2.\3.norm.\4", as_is),
    Rule(rf"{LAYERS}\.(\d+)\.fn\.qkv\.weight", r"encoder.\1\2.\3.matrix", as_is),
    Rule(rf"{LAYERS}\.(\d+)\.fn\.to_out\.0\.weight", r"encoder.\1\2.\3.matrix_out", transposed),
    Rule(rf"{LAYERS}\.(\d+)\.fn\.to_out\.0\.bias", r"encoder.\1\2.\3.matrix_bias", as_is),
    Rule(rf"{LAYERS}\.(\d+)\.fn\.(?:weight|D)", r"encoder.\1\2.\3.matrix", as_is),
    Rule(rf"{LAYERS}\.(\d+)\.fn\.D1", r"encoder.\1\2.\3.second", as_is),
    Rule(rf"{DECODER}\.(\d+)\.norm\.(weight|bias)", r"decoder.\1.\2.norm.\3", as_is),
    Rule(rf"{DECODER}\.(\d+)\.fn\.qkv\.weight", r"decoder.\1.\2.matrix", as_is),
    Rule(rf"{DECODER}\.(\d+)\.fn\.to_out\.0\.weight", r"decoder.\1.\2.matrix_out", transposed),
    Rule(rf"{DECODER}\.(\d+)\.fn\.to_out\.0\.bias", r"decoder.\1.\2.matrix_bias", as_is),
    Rule(rf"{DECODER}\.(\d+)\.fn\.weight", r"decoder.\1.\2.matrix", as_is),
    # norms and heads
    Rule(r"norm\.(weight|bias)|mlp_head\.0\.(weight|bias)", r"encoder_norm.\1\2", as_is),
    Rule(r"decoder_norm\.(weight|bias)", r"decoder_norm.\1", as_is),
    Rule(r"mlp_head\.1\.(weight|bias)|decoder_pred\.(weight|bias)", r"head.\1\2", as_is),
)

# Parameters that the official masked autoencoder has and its forward pass never reads.
UNUSED = r"pos_embed|decoder_embed\.(weight|bias)"
