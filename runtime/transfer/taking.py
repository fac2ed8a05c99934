"""Which weights of one network another one takes, what stays as initialised, and what is left over: all of it told."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from rich.table import Table
from torch import Tensor, nn

from runtime.errors import UserError
from runtime.storage.log import console
from runtime.storage.trained import LISTED
from runtime.weights.positions import Grid, interpolated
from runtime.weights.tensors import shape_text

Fate = Literal["taken", "interpolated", "of the spec", "re-initialised", "left over"]
HEAD = "head."
ENCODER = "encoder."


@dataclass(frozen=True)
class Entry:
    """What becomes of one tensor, and why."""

    name: str
    fate: Fate
    why: str
    numbers: int


@dataclass(frozen=True)
class Taking:
    """Tensors for the new network by name, and the fate of every tensor of either network."""

    values: Mapping[str, Tensor]
    entries: tuple[Entry, ...]

    def names(self, *fates: Fate) -> list[str]:
        return [entry.name for entry in self.entries if entry.fate in fates]


def taking(source: nn.Module, target: nn.Module) -> Taking:
    """What `target` takes of `source`: what bears the same name and has the same shape.

    Learned positions of another grid of patches are interpolated; a table that the spec fixes stays the spec's; a head
    is taken by a network of the same kind alone. Raises UserError where the encoder is not taken as a whole.
    """
    theirs, buffers = source.state_dict(), {name for name, _ in target.named_buffers()}
    values: dict[str, Tensor] = {}
    entries = []
    for name, wanted in target.state_dict().items():
        value, fate, why = found(name, wanted, theirs.get(name), name in buffers, source, target)
        if value is not None:
            values[name] = value
        entries.append(Entry(name, fate, why, wanted.numel()))
    left = [name for name in theirs if name not in values]
    entries += [Entry(name, "left over", shape_text(theirs[name].shape), theirs[name].numel()) for name in left]
    result = Taking(values, tuple(entries))
    require_encoder(result)
    return result


def found(
    name: str, wanted: Tensor, value: Tensor | None, fixed: bool, source: nn.Module, target: nn.Module
) -> tuple[Tensor | None, Fate, str]:
    """A tensor for the place `name`, if there is one, what that makes of the place, and why."""
    otherwise: Fate = "of the spec" if fixed else "re-initialised"
    if value is None:
        return None, otherwise, "the weights have none"
    if name.startswith(HEAD) and source.task != target.task:
        return None, otherwise, f"theirs is the head of another kind of network, {source.task}"
    if name == "position" and source.input == target.input == "image":
        return position(wanted, value, otherwise, source, target)
    if value.shape != wanted.shape:
        return None, otherwise, f"{shape_text(value.shape)} there, {shape_text(wanted.shape)} here"
    return value, "taken", ""


def position(
    wanted: Tensor, value: Tensor, otherwise: Fate, source: nn.Module, target: nn.Module
) -> tuple[Tensor | None, Fate, str]:
    """Positions as they are, or bicubically interpolated to a new grid as officially for MAE (`util/pos_embed.py`)."""
    (old, prefix), (new, own_prefix) = layout(source), layout(target)
    if prefix != own_prefix or value.shape[-1] != wanted.shape[-1]:
        shapes = f"{shape_text(value.shape)} there, {shape_text(wanted.shape)} here"
        why = f"{shapes}; {prefix} and {own_prefix} tokens before the patches"
        return None, otherwise, why
    if old == new:
        return value, "taken", ""
    if otherwise == "of the spec":
        return None, otherwise, f"the spec's table for {new} patches, theirs is for {old}"
    return interpolated(value, old, new, prefix), "interpolated", f"from {old} to {new} patches, bicubic"


def layout(network: nn.Module) -> tuple[Grid, int]:
    """The grid of patches of a network that reads images, and the number of tokens before them."""
    (height, width), (rows, columns) = network.image_size, network.patch_size
    grid = Grid(height // rows, width // columns)
    return grid, network.token_count - grid.rows * grid.columns


def require_encoder(result: Taking) -> None:
    missing = [e for e in result.entries if e.name.startswith(ENCODER) and e.fate == "re-initialised"]
    if missing:
        lines = [f"{entry.name}: {entry.why}" for entry in missing[:LISTED]]
        more = [f"and {len(missing) - LISTED} more"] if len(missing) > LISTED else []
        raise UserError("these weights do not fill the encoder:\n  " + "\n  ".join(lines + more))


def show(result: Taking) -> None:
    """One line for the tensors of all layers that fare alike."""
    groups: Counter[tuple[str, str, str]] = Counter()
    numbers: Counter[tuple[str, str, str]] = Counter()
    for entry in result.entries:
        key = re.sub(r"\.\d+\.", ".*.", entry.name), entry.fate, entry.why
        groups[key] += 1
        numbers[key] += entry.numbers
    table = Table(
        "parameters", "fate", "tensors", "numbers", "why", title="weights to start from", title_justify="left"
    )
    for key, count in groups.items():
        table.add_row(key[0], key[1], str(count), f"{numbers[key]:,}", key[2])
    console().print(table)
