"""The operators that mix tokens, alone: without norm, projection and read-out, which all of them share.

Each maps projected tokens w, (batch, heads, N, p), to the same shape: softmax attention of q = k = v, the exact
gradient of the coding rate, and token statistics; and their causal forms.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional as F

import crate_dsl
from runtime.baselines.tost import causal_token_statistics, token_statistics
from runtime.bench.forms import SPECS

Mixer = Callable[[Tensor], Tensor]

BETA = 0.1  # of the coding rate, the start of the specs


@cache
def written(spec: str) -> ModuleType:
    """The written file of a spec of the project, executed; what it computes with is in it."""
    compilation = crate_dsl.compile_spec(SPECS / spec)
    return crate_dsl.module_of(compilation.text, compilation.class_name)


def softmax(w: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(w, w, w, scale=w.shape[-1] ** -0.5)


def causal_softmax(w: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(w, w, w, scale=w.shape[-1] ** -0.5, is_causal=True)


def exact(w: Tensor) -> Tensor:
    return written("crate_exact.crate").gram_solve(at_least_float32(w), 1, BETA)


def causal_exact(w: Tensor) -> Tensor:
    return written("crate_gpt_exact.crate").prefix_solve(at_least_float32(w), 1, BETA)


def at_least_float32(w: Tensor) -> Tensor:
    """As in the written files: Cholesky factors need it."""
    return w.float() if w.dtype == torch.bfloat16 else w


OPERATORS: dict[str, Mixer] = {
    "softmax": softmax,
    "exact": exact,
    "TSSA": token_statistics,
    "causal softmax": causal_softmax,
    "causal exact": causal_exact,
    "causal TSSA": causal_token_statistics,
}
