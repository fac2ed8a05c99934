"""What adding an operator to the tokens does to their coding rate, beside averaging it with them.

The official code adds: Z + MSSA(Z). The paper's convex form averages: (1 - a) Z + a MSSA(Z). Hu, Zou and Xu 2024
(arXiv 2411.17182) note that adding raises R^c; whether it does is measured here at trained layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.errors import Inapplicable
from runtime.inspection.places import Place

SHARES = (0.1, 0.5)  # a of the convex form


@dataclass(frozen=True)
class Mixture:
    """The stated energy of V, the tokens as the step reads them, and of what is made of them, (batch,) each.

    `added` is that of V + O with O the operator at V, `renormed` that of its norm; `averaged[a]` of (1 - a) V + a O.
    """

    place: Place
    start: Tensor
    added: Tensor
    renormed: Tensor
    averaged: dict[float, Tensor]


def adds_its_operator(place: Place) -> bool:
    """Whether the step is Z plus an operator with a softmax in it, as the official code has it."""
    rules = {line.rule for line in place.derived.record}
    return (
        bool(place.derived.step.norm)
        and not place.derived.step.ascends
        and {"coefficients ~ absorbed", "gram ~ softmax"} <= rules
    )


@torch.no_grad()
def mixture(place: Place, tokens: Tensor) -> Mixture:
    """At the tokens (batch, N, d) that come into the step; raises Inapplicable for other steps."""
    if not adds_its_operator(place):
        raise Inapplicable("no step of this network adds a softmax operator to its tokens")
    read = place.read(tokens)
    operator = place.module(tokens) - (tokens if place.derived.step.residual == "raw" else read)
    energy, added = place.module.energy, read + operator
    averaged = {a: energy((1 - a) * read + a * operator) for a in SHARES}
    return Mixture(place, energy(read), energy(added), energy(place.read(added)), averaged)
