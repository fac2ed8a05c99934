"""The most probable classes of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn

from runtime.storage.log import console
from runtime.tasks.task import wide

Guess = tuple[int, float]  # class and probability


@torch.no_grad()
def guesses(network: nn.Module, images: Tensor, top: int) -> list[list[Guess]]:
    """The `top` most probable classes of every image, the most probable first, with the softmax of the logits."""
    best = wide(network(images)).softmax(dim=1).topk(min(top, network.classes))
    return [
        list(zip(numbers, values, strict=True))
        for numbers, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def named(number: int, names: Sequence[str] | None) -> str:
    """The name of a class; its number where names are unknown."""
    return str(number) if names is None else names[number]


def entries(
    files: Sequence[Path], found: Sequence[Sequence[Guess]], names: Sequence[str] | None
) -> list[dict[str, object]]:
    """What is kept of every picture, for JSON."""
    return [
        {
            "picture": str(file),
            "classes": [
                {"class": number, "name": named(number, names), "probability": value} for number, value in best
            ],
        }
        for file, best in zip(files, found, strict=True)
    ]


def show(files: Sequence[Path], found: Sequence[Sequence[Guess]], names: Sequence[str] | None) -> None:
    table = Table("picture", "class", "probability")
    for file, best in zip(files, found, strict=True):
        for place, (number, value) in enumerate(best):
            table.add_row(str(file) if place == 0 else "", named(number, names), f"{value:.4f}")
    console().print(table)
