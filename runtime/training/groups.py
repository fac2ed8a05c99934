"""Groups of parameters that share their learning rate and their weight decay."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from runtime.errors import UserError

UNDECAYED = ("class_token", "mask_token", "position")  # matrices by shape, but offsets by role
STEM = ("patches", "embedding", "tokens_norm", *UNDECAYED)  # what makes the first tokens

Group = dict[str, Any]


class Decays(Protocol):
    """What of an optimiser's options decides about groups."""

    weight_decay: float
    decay_all: bool
    layer_decay: float


@dataclass(frozen=True)
class Depth:
    """How many layers the blocks of a network have, by the names of its parameters."""

    encoder: int
    decoder: int

    @classmethod
    def of(cls, names: Iterable[str]) -> Depth:
        counts = {"encoder": 0, "decoder": 0}
        for name in names:
            block, *rest = own(name).split(".")
            if block in counts:
                counts[block] = max(counts[block], int(rest[0]) + 1)
        return cls(**counts)

    @property
    def top(self) -> int:
        return self.encoder + self.decoder + 1

    def layer(self, name: str) -> int:
        """0 for what makes the tokens, then one layer after the other, `top` for the head and whatever is beside.

        As in BEiT and MAE (`get_layer_id_for_vit`). A norm after a block belongs to what reads it.
        """
        block, *rest = own(name).split(".")
        if block in STEM:
            return 0
        if block == "encoder":
            return int(rest[0]) + 1
        if block == "decoder":
            return self.encoder + int(rest[0]) + 1
        return self.encoder + 1 if block == "encoder_norm" else self.top


def grouped(
    network: nn.Module, options: Decays, names: Container[str] | None = None, scale: float = 1.0
) -> list[Group]:
    """The trained parameters, or those of the given names: the decayed first, each kind from the stem to the head.

    Learned numbers are groups of their own: FSDP does not slice them, and one update cannot mix the two kinds.
    A group's `scale` multiplies its learning rate, `decays` says whether a schedule of weight decay concerns it.
    Raises UserError where there should be decay by layers and the network has none.
    """
    layers, top = layers_of(network)
    by_layer = options.layer_decay < 1
    if by_layer and top == 1:
        raise UserError("optimizer.layer_decay: this network has no blocks of layers; leave it at 1")
    members: dict[tuple[bool, int, bool], list[nn.Parameter]] = {}
    vectors = vectors_of(network)
    for name, value in trained(network):
        if names is None or name in names:
            undecayed = not (options.decay_all or (is_matrix(name, value) and name not in vectors))
            layer = layers[name] if by_layer else top
            members.setdefault((undecayed, layer, value.ndim == 0), []).append(value)
    return [
        {
            "params": values,
            "weight_decay": 0.0 if undecayed else options.weight_decay,
            "decays": not undecayed,
            "scale": scale * options.layer_decay ** (top - layer),
        }
        for (undecayed, layer, _), values in sorted(members.items(), key=lambda item: item[0])
    ]


def layers_of(network: nn.Module) -> tuple[dict[str, int], int]:
    """The layer of every parameter, and the top one; what several layers share belongs to the last of them."""
    names = list(network.named_parameters(remove_duplicate=False))
    depth = Depth.of(name for name, _ in names)
    highest: dict[int, int] = {}
    for name, value in names:
        highest[id(value)] = max(highest.get(id(value), 0), depth.layer(name))
    return {name: highest[id(value)] for name, value in network.named_parameters()}, depth.top


def hidden(network: nn.Module) -> set[str]:
    """The names of the matrices within the blocks: what has the width of the tokens as one side, but no bias.

    A family of columns, such as a bias of every head, is stored as a matrix too.
    """
    width, vectors = width_of(network), vectors_of(network)
    return {
        name
        for name, value in trained(network)
        if own(name).split(".")[0] in ("encoder", "decoder")
        and is_matrix(name, value)
        and value.ndim == 2
        and width in value.shape
        and 1 not in value.shape
        and name.split(".")[-1] != "bias"
        and name not in vectors
    }


def width_of(network: nn.Module) -> int | None:
    """The features of a token: of what embeds it, or of vectors themselves."""
    widths = [
        value.shape[0] for name, value in network.named_parameters() if own(name).startswith("patches.projection")
    ]
    if widths:  # of one map, or of the last convolution
        return widths[-1]
    for name, value in network.named_parameters():
        if own(name) == "embedding.weight":
            return value.shape[1]
    return getattr(network, "vector_length", None)


def vectors_of(network: nn.Module) -> set[str]:
    """What is a vector for every head; networks say so that the runtime has built."""
    marked = getattr(getattr(network, "network", network), "family_columns", frozenset())
    parts = ((name, own(name).split(".")) for name, _ in network.named_parameters())
    return {name for name, (block, *rest) in parts if rest and (block, rest[-1]) in marked}


def trained(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, value) for name, value in network.named_parameters() if value.requires_grad)


def own(name: str) -> str:
    """A parameter's name within the network, also where a task has put the network into an apparatus."""
    return name.removeprefix("network.")


def is_matrix(name: str, value: Tensor) -> bool:
    return value.ndim >= 2 and name.rpartition(".")[2] not in UNDECAYED
