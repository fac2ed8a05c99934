"""From a compiled network back to the official code: a whole state dict that `load_state_dict` takes as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtime.errors import UserError
from runtime.weights.layouts import Patch
from runtime.weights.names import Family, Rule, family_for
from runtime.weights.places import places_of
from runtime.weights.tensors import listed, shape_text


@dataclass(frozen=True)
class Restored:
    """A whole official state dict; its entries that were made up."""

    family: Family
    state: dict[str, Tensor]
    made: tuple[str, ...]


def restored(weights: Mapping[str, Tensor], network: nn.Module, kept: Mapping[str, Tensor]) -> Restored:
    """The official state dict of a network's weights, under official names and in official shapes.

    Args:
        weights: those of `network`.
        network: of an official architecture; only its facts are read.
        kept: official entries without a place in it, as an earlier conversion left them.

    Raises:
        UserError: where the network is of no official architecture, with every entry that stands in the way.
    """
    places = places_of(network.state_dict())  # in the network's order, which a file need not keep
    family = family_for([place for found in places.values() for place in found])
    kept = {name: value for name, value in kept.items() if name in family.unread}
    patch = Patch(*network.patch_size, network.channels) if network.input == "image" else None
    state: dict[str, Tensor] = {}
    problems = []
    for name, found in places.items():
        value, (rule, place) = weights[name], placed(family, found)
        if rule:
            state[rule.to_official(place)] = rule.layout.official(value, patch).contiguous()
        else:
            problems.append(f"unexpected: {name} {shape_text(value)} has no official name")
    problems += [f"missing:    {name}" for name in family.wanted(state) if name not in state]
    if problems:
        about = f"this network is not {family.name} as its official code has it (specs/{family.spec})"
        raise UserError(f"{about}:{listed(problems)}")
    made = {name: made_of(source, state) for name, source in family.unread.items()}
    fitting = {name: value for name, value in kept.items() if value.shape == made[name].shape}
    ties = {name: state[source] for name, source in family.tied.items()}
    return Restored(family, state | made | fitting | ties, tuple(name for name in made if name not in fitting))


def placed(family: Family, places: tuple[str, ...]) -> tuple[Rule | None, str]:
    """The rule for the first of these places that has one."""
    found = ((family.rule_of(place), place) for place in places)
    return next(((rule, place) for rule, place in found if rule), (None, places[0]))


def made_of(source: str, state: Mapping[str, Tensor]) -> Tensor:
    """What stands for an entry that nothing reads."""
    if source in state:
        return state[source]
    like = next(value for name, value in state.items() if name == "cls_token")
    width = like.shape[-1]
    return (torch.eye(width) if source == "identity" else torch.zeros(width)).to(like)
