"""From the official code to a compiled network: every tensor under its new name, in its new layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtime.errors import UserError
from runtime.weights.names import FAMILIES, Family, family_of
from runtime.weights.places import compiled_names
from runtime.weights.positions import Grid, interpolated, square_grid
from runtime.weights.tensors import listed, same_bits, shape_text

STRANGE = "these official weights are not those of this network"


@dataclass(frozen=True)
class Converted:
    """Weights under the compiled names; official entries that have no place there; what was changed on the way."""

    family: Family
    weights: dict[str, Tensor]
    kept: dict[str, Tensor]
    remarks: tuple[str, ...]


def convert_state(official: Mapping[str, Tensor], network: nn.Module, complete: bool = True) -> dict[str, Tensor]:
    """The official weights, or gradients, under the names and in the layout of `network`.

    Raises UserError listing every missing (unless `complete` is False), unexpected and misshapen entry.
    """
    return converted(official, network, complete).weights


def converted(official: Mapping[str, Tensor], network: nn.Module, complete: bool = True) -> Converted:
    """As `convert_state`, with what is left over.

    Learned positions of images of another size are interpolated, a fixed table is that of the network.

    Raises:
        UserError: for a state dict of no known family, or with every entry that is missing, unexpected or misshapen.
    """
    family = family_of(official)
    if family is None:
        known, first = ", ".join(family.name for family in FAMILIES), ", ".join(list(official)[:3])
        raise UserError(f"these are the weights of no architecture known here ({known}); their names are {first}, ...")
    return Reader(family, network).read(official, complete)


class Reader:
    """Reads one state dict; problems are gathered, so that all are told at once."""

    def __init__(self, family: Family, network: nn.Module) -> None:
        self.family, self.network = family, network
        self.values = network.state_dict()
        self.names = compiled_names(self.values)
        self.weights: dict[str, Tensor] = {}
        self.kept: dict[str, Tensor] = {}
        self.problems: list[str] = []
        self.remarks: list[str] = []

    def read(self, official: Mapping[str, Tensor], complete: bool) -> Converted:
        for name, value in official.items():
            if name in self.family.tied:
                self._tied(name, value, official)
            elif name in self.family.unread:
                self._unread(name, value, official)
            else:
                self._place(name, value)
        lacking = [name for name in self.values if name not in self.weights] if complete else []
        self.problems += [f"missing:    {name} {shape_text(self.values[name])}" for name in lacking]
        if self.problems:
            raise UserError(f"{STRANGE}:{listed(self.problems)}")
        weights = {name: self.weights[name].contiguous() for name in self.values if name in self.weights}
        return Converted(self.family, weights, self.kept, tuple(self.remarks))

    def _tied(self, name: str, value: Tensor, official: Mapping[str, Tensor]) -> None:
        source = self.family.tied[name]
        if not (source in official and same_bits(value, official[source])):
            self.problems.append(f"unexpected: {name} differs from {source}; officially both are one matrix")

    def _unread(self, name: str, value: Tensor, official: Mapping[str, Tensor]) -> None:
        """Kept, unless it is what would be made of the others anyway."""
        source = self.family.unread[name]
        if not (source in official and same_bits(value, official[source])):
            self.kept[name] = value

    def _place(self, name: str, value: Tensor) -> None:
        rule = self.family.rule_for(name)
        place = rule.to_ours(name) if rule else None
        target = self.names.get(place, place) if place else None
        if target not in self.values:
            why = f", for {target}" if target else ""
            self.problems.append(f"unexpected: {name} {shape_text(value)}{why}")
            return
        if value.is_floating_point() != self.values[target].is_floating_point():
            wanted = "real" if self.values[target].is_floating_point() else "whole"
            self.problems.append(f"unexpected: {name} holds {value.dtype}, not {wanted} numbers")
            return
        wanted = self.values[target].shape
        tensor = self._fitted(target, rule.layout.ours(value, wanted), wanted)
        if tensor.shape != wanted:
            shapes = f"{shape_text(tensor)}, {target} is {shape_text(wanted)}"
            self.problems.append(f"misshapen:  {name} {shape_text(value)} gives {shapes}")
        self.weights[target] = tensor

    def _fitted(self, target: str, value: Tensor, wanted: torch.Size) -> Tensor:
        """Positions (1, N, d) of square images of another size: learned ones interpolated, a fixed table the network's.

        Everything else is given back as it is.
        """
        if target != "position" or getattr(self.network, "input", "") != "image":
            return value
        prefix = int("class_token" in self.values)
        old = square_grid(value.shape[1] - prefix) if value.ndim == 3 else None
        if old is None or value.shape == wanted or value.shape[::2] != wanted[::2]:
            return value
        (height, width), (rows, columns) = self.network.image_size, self.network.patch_size
        new = Grid(height // rows, width // columns)
        if not isinstance(self.network.position, nn.Parameter):
            self.remarks.append(f"position: the fixed table of {new} patches in place of that of {old}")
            return self.values["position"].to(value)
        self.remarks.append(f"position: interpolated from {old} to {new} patches, bicubic")
        return interpolated(value, old, new, prefix)
