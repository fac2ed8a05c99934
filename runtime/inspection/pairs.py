"""How well a decoder undoes its encoder, layer by layer.

The decoder is derived as the encoder's inverse in reversed order (CRATE-MAE, Pai et al. 2024, arXiv 2404.02446): its
layer L - 1 - l shall give back the tokens that entered the encoder's layer l.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.inspection.layers import between, paired, round_trips
from runtime.inspection.similarity import alignment, cosines, scaled_error

MOST = 2048  # tokens compared


@dataclass(frozen=True)
class Match:
    """`found` against `wanted`: the mean cosine over tokens, and the relative error after one best scaling."""

    cosine: float
    error: float


@dataclass(frozen=True)
class Trip:
    """An encoder layer's tokens after it and its decoder layer, against those before; and after it alone."""

    both: Match
    encoded: Match


@dataclass(frozen=True)
class Pairs:
    """Of one group of tokens: encoder states (rows) against decoder states (columns), and what pairs do.

    State 0 is what enters the first layer, state l + 1 what leaves layer l. `pairs[l]` compares the tokens before
    encoder layer l with those after decoder layer L - 1 - l; `trips` is empty where the layers do not pair off.
    """

    tokens: int
    cosine: Tensor
    alignment: Tensor
    pairs: Sequence[Match]
    trips: Sequence[Trip]


def compared(network: nn.Module, *arguments: Tensor) -> Mapping[str, Pairs]:
    """By group of patch tokens: "visible" and, where the network hides some, "hidden"; all are visible else."""
    states = between(network, *arguments)
    trips = round_trips(network, states["encoder"]) if paired(network) else []
    return {
        name: of_group(chosen(states["encoder"], own), chosen(states["decoder"], own), chosen(trips, own))
        for name, own in groups(network, *arguments).items()
    }


@torch.no_grad()
def groups(network: nn.Module, *arguments: Tensor) -> dict[str, Tensor]:
    """Which tokens belong to which group, (batch, N) each; a class token belongs to none."""
    tokens, first = network.tokens(*arguments), int(hasattr(network, "class_token"))
    if network.mask_ratio:
        hidden = tokens[1] == 1
        return {name: F.pad(own, (first, 0)) for name, own in (("visible", ~hidden), ("hidden", hidden))}
    own = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    own[:, :first] = False
    return {"visible": own}


def chosen(states: Sequence[Tensor], own: Tensor) -> list[Tensor]:
    """Of every state the same tokens (at most `MOST`, d) of the group, spread over it."""
    places = own.flatten().nonzero().squeeze(1)
    count = min(MOST, len(places))
    places = places[torch.arange(count, device=places.device) * len(places) // max(1, count)]
    return [
        tokens.flatten(0, 1)[places].to(tokens if tokens.dtype == torch.float64 else torch.float32) for tokens in states
    ]


def of_group(encoder: Sequence[Tensor], decoder: Sequence[Tensor], trips: Sequence[Tensor]) -> Pairs:
    last = len(decoder) - 1
    cosine = torch.tensor([[float(cosines(x, y).mean()) for y in decoder] for x in encoder], dtype=torch.float64)
    pairs = [match(encoder[layer], decoder[last - layer]) for layer in range(len(trips))]
    made = [
        Trip(match(encoder[layer], back), match(encoder[layer], encoder[layer + 1])) for layer, back in enumerate(trips)
    ]
    return Pairs(len(encoder[0]), cosine, alignment(encoder, decoder), pairs, made)


def match(wanted: Tensor, found: Tensor) -> Match:
    return Match(float(cosines(wanted, found).mean()), scaled_error(wanted, found))
