"""Coding rates and sparsity of tokens, in the convention of the papers and in that of the official plots."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from crate_dsl.library.tree import Apply, Tree, children
from runtime.inspection.places import Place
from runtime.scoring.coding_rate import coding_rate

EPSILON = 0.5  # of the papers' experiments; squared in the formula
PLOTTED = 0.01  # `eps` of the official plots, which stands there in the place of eps^2


@dataclass(frozen=True)
class Rates:
    """Of every input, (batch,) each, in nats: R^c of the tokens within the subspaces, R of the tokens as a whole."""

    compressed: Tensor
    whole: Tensor


def family_of(place: Place) -> Tensor | None:
    """The family K x d x p that a step projects its tokens onto, None where it has none.

    It is the first family of the energy whose rows are the features; what an approximation has freed does not count.
    """
    axis = place.compilation.model.tokens.rows
    for parameter in place.parameters:
        shape = parameter.shape
        if shape.family and shape.rows == axis and shape.cols != "1" and parameter.origin is None:
            return torch.as_tensor(place.matrix(parameter))
    return None


def states_a_rate(place: Place) -> bool:
    """Whether the energy of a step is a coding rate as the papers write it, with a log-determinant."""
    derived = place.derived
    return derived.step.unknown is None and family_of(place) is not None and has_logdet(derived.objective.energy)


def has_logdet(tree: Tree) -> bool:
    return (isinstance(tree, Apply) and tree.atom == "logdet") or any(map(has_logdet, children(tree)))


def by_own_formula(place: Place, tokens: Tensor) -> Tensor | None:
    """R^c (batch,) of tokens (batch, N, d) as they are, by the formula of the spec; None where it states no rate."""
    return place.module.energy(tokens) if states_a_rate(place) else None


def leaves_a_code(place: Place) -> bool:
    """Whether what leaves the step is its sparse code itself: a proximal map that nothing is read from or added to."""
    step = place.derived.step
    proximal = any(line.rule == "prox" for line in place.derived.record)
    return proximal and step.unknown is not None and step.read is None and step.residual is None


def projected(tokens: Tensor, family: Tensor) -> Tensor:
    """U_k' Z: (batch, K, N, p) of tokens (batch, N, d) and a family (K, d, p), in float64."""
    return tokens.double().unsqueeze(1) @ family.to(tokens.device)


def as_stated(tokens: Tensor, family: Tensor, epsilon: float = EPSILON) -> Rates:
    """R^c = sum_k 1/2 logdet(I + p / (N eps^2) W_k W_k'), W_k = U_k' Z, and R with d in the place of p.

    Source: Yu et al. 2023 (arXiv 2306.01129), section 2.
    """
    compressed = coding_rate(projected(tokens, family), epsilon**2).sum(1)
    return Rates(compressed, coding_rate(tokens.double(), epsilon**2))


def as_plotted(tokens: Tensor, family: Tensor, epsilon: float = PLOTTED) -> Tensor:
    """R^c (batch,) as the official figures have it: every token's projection has length 1, eps stands for eps^2.

    `tokens` are those that the operator reads, after its norm. Source: CRATE's vis_utils/coding_rate.py.
    """
    return coding_rate(F.normalize(projected(tokens, family), dim=-1), epsilon).sum(1)


def share_of_nonzeros(tokens: Tensor) -> Tensor:
    """The share of entries that are not exactly zero, (batch,): 1 minus what the official code calls sparsity."""
    return (tokens != 0).double().flatten(1).mean(1)
