"""The tokens of a network between its steps: spectra, ranks, sparse codes, and what every step is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from runtime.inspection.places import Place


def singular_values(tokens: Tensor) -> Tensor:
    """Of the tokens (batch, N, d) of every input, not centred: (batch, min(N, d)), falling, in float64."""
    return torch.linalg.svdvals(tokens.double())


def effective_rank(values: Tensor) -> Tensor:
    """exp of the entropy of the singular values over their sum (Roy and Vetterli 2007): (batch,); 0 where all are 0."""
    total = values.sum(-1, keepdim=True)
    shares = values / total.where(total > 0, 1)
    return torch.special.entr(shares).sum(-1).exp().where(total[:, 0] > 0, 0)


def stable_rank(values: Tensor) -> Tensor:
    """|Z|_F^2 / |Z|_2^2: (batch,); 0 where all are 0."""
    largest = values[:, 0].square()
    return (values.square().sum(-1) / largest.where(largest > 0, 1)).where(largest > 0, 0)


@torch.no_grad()
def step_inputs(network: nn.Module, places: Iterable[Place], *arguments: Tensor) -> dict[str, Tensor]:
    """The tokens (batch, N, d) that enter every step, by its name, before its norm."""
    found: dict[str, Tensor] = {}

    def kept(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[name] = given[0]

        return hook

    handles = [place.module.register_forward_pre_hook(kept(place.name)) for place in places]
    try:
        network.features(*arguments)
    finally:
        for handle in handles:
            handle.remove()
    return found


@torch.no_grad()
def code(place: Place, tokens: Tensor) -> Tensor:
    """The sparse code (batch, N, m) that a proximal step finds for tokens (batch, N, d) before its norm.

    Where the step reads its code out, the tokens after it are not the code itself.
    """
    return place.module.code(place.read(tokens)) if hasattr(place.module, "code") else place.module(tokens)
