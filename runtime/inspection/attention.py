"""Attention maps of any network that uses torch's fused attention, ours and the transformers we compare with.

The fused product does not give its weights away, so they are computed again beside it, while a recorder is active only:
a network that is not looked at costs nothing more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from runtime.errors import Inapplicable


class Recorder(TorchFunctionMode):
    """Keeps softmax(scale q k') of every fused attention, (batch, heads, queries, keys), in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        named = named or {}
        if function is F.scaled_dot_product_attention:
            self.found.append(weights(*arguments, **named))
        return function(*arguments, **named)


def weights(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: object,
) -> Tensor:
    """The weights of `F.scaled_dot_product_attention`, whose arguments these are, in float32 at least."""
    q, k = (x if x.dtype == torch.float64 else x.float() for x in (q, k))
    logits = q @ k.mT * (scale if scale is not None else 1 / math.sqrt(q.shape[-1]))
    if is_causal:
        hidden = torch.ones(logits.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        logits = logits.masked_fill(hidden, -math.inf)
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
    return logits.softmax(-1)


@torch.no_grad()
def attention_maps(network: nn.Module, *arguments: Tensor) -> Mapping[str, Tensor]:
    """The weights of every step or block with one fused attention, (batch, heads, N, N), by its name in `features`.

    Row i holds how much token i takes of every token. Raises Inapplicable where the network has no fused attention.
    """
    names = set(network.features(*(argument[:1] for argument in arguments)))
    own = {name: module for name, module in network.named_modules() if name in names}
    found: dict[str, Tensor] = {}
    recorder = Recorder()

    def kept(name: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            if recorder.found:
                found[name] = recorder.found.pop()
                recorder.found.clear()

        return hook

    handles = [module.register_forward_hook(kept(name)) for name, module in own.items()]
    try:
        with recorder:
            network.features(*arguments)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise Inapplicable("no step of this network is a softmax attention over its tokens")
    return found
