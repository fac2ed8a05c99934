"""All numbers of the tokens of one network on a batch: ranks, nearest subspaces, activity of sparse codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from crate_dsl import Compilation
from runtime.inspection.matrices import Found, found, is_dictionary, is_family
from runtime.inspection.places import Place, array
from runtime.inspection.subspaces import agreement, agreement_by_chance, shares, spans
from runtime.inspection.tokens import code, effective_rank, singular_values, stable_rank, step_inputs

AT_ONCE = 8  # inputs whose tokens are held in memory together
WORK = 10**10  # N d min(N, d) over all singular value decompositions of a network: about 20 seconds of one core


@dataclass(frozen=True)
class Ranks:
    """The tokens after one step: `spectrum` is the mean over the inputs of the singular values over the largest."""

    label: str
    spectrum: np.ndarray
    effective: np.ndarray  # (inputs,)
    stable: np.ndarray  # (inputs,)


@dataclass(frozen=True)
class Nearest:
    """Which of `count` subspaces every token of every input is nearest to, (inputs, N), as a step reads the tokens.

    `inside` is the mean of the largest |U_k'z|^2 / |z|^2; `same` the share of tokens for which orthonormal bases of the
    same spans name the same subspace. Both leave out the `first` tokens, which stand before those of the patches.
    `grid` is the patches' rows and columns, None for what is no image; `ordered` says whether tokens have neighbours.
    """

    label: str
    count: int
    kinds: np.ndarray
    inside: float
    same: float
    first: int
    grid: tuple[int, int] | None
    ordered: bool

    @property
    def maps(self) -> np.ndarray:
        """Without the class token: (inputs, rows, columns) of images, (inputs, N) otherwise."""
        kinds = self.kinds[:, self.first :]
        return kinds.reshape(len(kinds), *self.grid) if self.grid else kinds

    @property
    def shares(self) -> np.ndarray:
        """Of every subspace, (count,), the class token left out."""
        return np.bincount(self.maps.ravel(), minlength=self.count) / self.maps.size

    @property
    def agreement(self) -> float:
        return agreement(self.maps) if self.ordered else np.nan

    @property
    def chance(self) -> float:
        return agreement_by_chance(self.maps, self.count) if self.ordered else np.nan


@dataclass(frozen=True)
class Activity:
    """A sparse code on a batch: for each of its m features the share of tokens for which it is not zero, (m,)."""

    label: str
    shares: np.ndarray
    tokens: int

    @property
    def dead(self) -> float:
        """The share of features that are zero for every token."""
        return float((self.shares == 0).mean())

    @property
    def active(self) -> float:
        """The share of entries that are not zero."""
        return float(self.shares.mean())


def is_coding(found: Found) -> bool:
    return found.place.derived.step.verb == "sparsify"


def coding_places(compilation: Compilation, network: nn.Module) -> list[Place]:
    """The steps that find a sparse code by proximal steps, each once."""
    steps = {each.place.name: each.place for each in found(compilation, network, is_dictionary) if is_coding(each)}
    return list(steps.values())


def parts(arguments: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """What `features` is called with, a few inputs at a time."""
    for start in range(0, len(arguments[0]), AT_ONCE):
        yield tuple(argument[start : start + AT_ONCE] for argument in arguments)


# ---- ranks ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def ranks(network: nn.Module, arguments: Sequence[Tensor]) -> list[Ranks]:
    """The tokens after every step, of as many inputs as WORK allows and at least one: those of `Ranks.effective`."""
    gathered: dict[str, list[Tensor]] = {}
    count = None
    for part in parts(arguments):
        features = network.features(*part)
        count = count or affordable(features, len(arguments[0]))
        seen = min(AT_ONCE, count - sum(map(len, next(iter(gathered.values()), []))))
        for label, tokens in features.items():
            gathered.setdefault(label, []).append(singular_values(tokens[:seen]))
        if sum(map(len, next(iter(gathered.values())))) >= count:
            break
    return [ranks_of(label, torch.cat(values)) for label, values in gathered.items()]


def affordable(features: dict[str, Tensor], inputs: int) -> int:
    cost = sum(tokens.shape[1] * tokens.shape[2] * min(tokens.shape[1:]) for tokens in features.values())
    return max(1, min(inputs, WORK // cost))


def ranks_of(label: str, values: Tensor) -> Ranks:
    largest = values[:, :1]
    spectrum = values / largest.where(largest > 0, 1)
    return Ranks(label, array(spectrum.mean(0)), array(effective_rank(values)), array(stable_rank(values)))


# ---- nearest subspaces ---------------------------------------------------------------------------------------------


@torch.no_grad()
def nearest(compilation: Compilation, network: nn.Module, arguments: Sequence[Tensor]) -> list[Nearest]:
    """Of every family of subspaces, for the tokens as its step reads them."""
    families = list(found(compilation, network, is_family))
    gathered: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    bases = {each.label: spans(each.value) for each in families}
    for part in parts(arguments):
        given = step_inputs(network, [each.place for each in families], *part)
        for each in families:
            tokens = array(each.place.read(given[each.place.name]))
            stated = shares(tokens, each.value)
            orthonormal = shares(tokens, bases[each.label]).argmax(-1)
            gathered.setdefault(each.label, []).append((stated.argmax(-1), stated.max(-1), orthonormal))
    first, grid = int(hasattr(network, "class_token")), grid_of(network)
    result = []
    for each in families:
        kinds, inside, orthonormal = map(np.concatenate, zip(*gathered[each.label], strict=True))
        same = float((kinds == orthonormal)[:, first:].mean())
        result.append(
            Nearest(each.label, len(each.value), kinds, float(inside[:, first:].mean()), same, first, grid,
                    network.input != "vectors")
        )  # fmt: skip
    return result


def grid_of(network: nn.Module) -> tuple[int, int] | None:
    """Rows and columns of the patches; None for what is no image."""
    if network.input != "image":
        return None
    (height, width), (rows, columns) = network.image_size, network.patch_size
    return height // rows, width // columns


# ---- sparse codes --------------------------------------------------------------------------------------------------


@torch.no_grad()
def activity(compilation: Compilation, network: nn.Module, arguments: Sequence[Tensor]) -> list[Activity]:
    """Of every step that finds a sparse code by proximal steps."""
    places = coding_places(compilation, network)
    counts: dict[str, Tensor] = {}
    tokens: dict[str, int] = {}
    for part in parts(arguments) if places else ():
        given = step_inputs(network, places, *part)
        for place in places:
            used = (code(place, given[place.name]) != 0).flatten(0, 1)
            counts[place.name] = counts.get(place.name, 0) + used.sum(0)
            tokens[place.name] = tokens.get(place.name, 0) + len(used)
    return [Activity(name, array(count) / tokens[name], tokens[name]) for name, count in counts.items()]


@torch.no_grad()
def codes(compilation: Compilation, network: nn.Module, arguments: Sequence[Tensor]) -> dict[str, np.ndarray]:
    """The sparse code of the first input after every such step, features x tokens, by the step's name."""
    places = coding_places(compilation, network)
    if not places:
        return {}
    given = step_inputs(network, places, *(argument[:1] for argument in arguments))
    return {place.name: array(code(place, given[place.name])[0]).T for place in places}
