"""What adding an operator to the tokens does to their coding rate, beside averaging it with them.

The official code adds: Z + MSSA(Z). The paper's convex form averages: (1 - a) Z + a MSSA(Z). Hu, Zou and Xu 2024
(arXiv 2411.17182) note that adding raises R^c; whether it does is measured here at trained layers, both of the tokens
that come into a step and of those that its operator reads, after its norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.errors import Inapplicable
from runtime.inspection.places import Place

SHARES = (0.1, 0.5)  # a of the convex form
RAW, READ = "raw", "as read"


@dataclass(frozen=True)
class Mixture:
    """The stated energy of tokens X and of what is made of them and O, the operator, (batch,) each.

    `tokens` says which X: those that come into the step (RAW) or those that its operator reads (READ); O is the same.
    `added` is that of X + O, `renormed` that of the step's norm of X + O; `averaged[a]` of (1 - a) X + a O, and
    `shrunk[a]` of (1 - a) X alone: a rate falls with the scale of the tokens, whatever is added.
    """

    place: Place
    tokens: str
    start: Tensor
    added: Tensor
    renormed: Tensor
    averaged: Mapping[float, Tensor]
    shrunk: Mapping[float, Tensor]

    @property
    def adding_raises(self) -> bool:
        """By the means over the batch."""
        return float((self.added - self.start).mean()) > 0

    def averaging_lowers(self, share: float) -> bool:
        return float((self.averaged[share] - self.start).mean()) < 0

    def averaging_lowers_more_than_shrinking(self, share: float) -> bool:
        return float((self.averaged[share] - self.shrunk[share]).mean()) < 0


def adds_its_operator(place: Place) -> bool:
    """Whether the step is Z plus an operator with a softmax in it, as the official code has it."""
    rules = {line.rule for line in place.derived.record}
    return (
        bool(place.derived.step.norm)
        and not place.derived.step.ascends
        and {"coefficients ~ absorbed", "gram ~ softmax"} <= rules
    )


@torch.no_grad()
def mixtures(place: Place, tokens: Tensor) -> Iterator[Mixture]:
    """Of raw tokens and of those read, for the tokens (batch, N, d) that come into the step.

    The operator has everything that the step has learned, a freed outer map and its bias among it. Raises Inapplicable
    for other steps.
    """
    if not adds_its_operator(place):
        raise Inapplicable("no step of this network adds a softmax operator to its tokens")
    read, energy = place.read(tokens), place.module.energy
    operator = place.module(tokens) - (tokens if place.derived.step.residual == "raw" else read)
    for name, start in ((RAW, tokens), (READ, read)):
        added = start + operator
        averaged = {a: energy((1 - a) * start + a * operator) for a in SHARES}
        shrunk = {a: energy((1 - a) * start) for a in SHARES}
        yield Mixture(place, name, energy(start), energy(added), energy(place.read(added)), averaged, shrunk)
