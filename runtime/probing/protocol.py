"""The whole measurement: k nearest neighbours and a linear probe, on the network's features and on two baselines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from torch import Tensor, nn

from runtime.data.source import Splits
from runtime.errors import UserError
from runtime.probing.features import Features, Reading, collected, unmasked
from runtime.probing.linear_probe import CHOSEN_ON, STRENGTHS, fitted
from runtime.recipe.schema import Recipe
from runtime.scoring.neighbours import NEIGHBOURS, TEMPERATURE, Neighbours
from runtime.self_supervision.self_supervised import thumbnails
from runtime.storage.log import console


@dataclass(frozen=True)
class Row:
    """What one kind of features is worth on the held-out images."""

    features: int
    knn_accuracy: float
    linear_accuracy: float
    strength: float  # C of the linear probe
    converged: bool


@dataclass(frozen=True)
class Probe:
    """All rows, by what the features are, and the protocol in words."""

    protocol: tuple[str, ...]
    rows: Mapping[str, Row]

    def figures(self) -> dict[str, object]:
        return {"protocol": list(self.protocol), "rows": {name: asdict(row) for name, row in self.rows.items()}}


def probe(network: nn.Module, fresh: nn.Module, read: Reading, splits: Splits, recipe: Recipe) -> Probe:
    """Measure the features of `network`, of the untrained `fresh`, and the pixels.

    Raises UserError where the data have no classes.
    """
    require_classes(network, splits, recipe)
    named: dict[str, Callable[[Tensor], Tensor]] = {
        "trained network": reader(network, read),
        "untrained network": reader(fresh, read),
        "pixels": thumbnails,
    }
    device = next(network.parameters()).device
    rows = {name: measured(call, splits, recipe, device) for name, call in named.items()}
    return Probe(protocol(read, splits), rows)


def require_classes(network: nn.Module, splits: Splits, recipe: Recipe) -> None:
    """Raises UserError where nothing can be probed: a network that reads no images, data without classes."""
    if network.input != "image":
        raise UserError(f"a probe reads images; this network reads {network.input}")
    if splits.classes is None:
        raise UserError(f"a probe needs data with classes; data {recipe.data.name} has none")


def reader(network: nn.Module, read: Reading) -> Callable[[Tensor], Tensor]:
    plain = unmasked(network)
    return lambda images: read.of(plain, images)


def measured(call: Callable[[Tensor], Tensor], splits: Splits, recipe: Recipe, device: torch.device) -> Row:
    train, held_out = (
        collected(call, images, recipe.evaluate_batch, device, recipe.precision)
        for images in (splits.train, splits.held_out)
    )
    linear = fitted(train)
    return Row(
        train[0].shape[1], neighbours(train, held_out), linear.accuracy(*held_out), linear.strength, linear.converged
    )


def neighbours(train: Features, held_out: Features) -> float:
    return float(Neighbours(*train).right(*held_out).double().mean())


def protocol(read: Reading, splits: Splits) -> tuple[str, ...]:
    """How it is measured, in words: what is printed above the figures and kept beside them."""
    counts = f"{len(splits.train):,} training and {len(splits.held_out):,} held-out images"
    low, high = STRENGTHS[0], STRENGTHS[-1]
    return (
        f"features: {read}, frozen, evaluation mode, nothing masked, no augmentation; {counts}",
        f"k-NN: cosine, the {NEIGHBOURS} nearest training images vote with exp(similarity / {TEMPERATURE})",
        "linear probe: multinomial logistic regression with an L2 penalty of strength 1/C on standardised features, "
        f"C of {low:g} ... {high:g} by {CHOSEN_ON:.0%} of the training images, upwards until two are no better, then "
        "fitted to all of them",
        "untrained network: the same, freshly initialised; pixels: averaged to at most 32 x 32",
    )


def show(title: str, found: Probe) -> None:
    screen = console()
    for line in found.protocol:
        screen.print(line)
    table = Table("features of", "numbers", "k-NN", "linear probe", "C", title=title, title_justify="left")
    for name, row in found.rows.items():
        strength = f"{row.strength:g}" if row.converged else f"{row.strength:g} (L-BFGS did not converge)"
        cells = f"{row.features:,}", f"{row.knn_accuracy:.4f}", f"{row.linear_accuracy:.4f}", strength
        table.add_row(name, *cells)
    screen.print(table)
