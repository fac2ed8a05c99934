"""Pictures that a network makes of pictures: reconstructed, denoised, or with removed patches predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from runtime.data.source import Batch, DataSource
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import held_out_draw
from runtime.storage import checkpoint
from runtime.tasks.task import wide


@torch.no_grad()
def columns(network: nn.Module, images: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """What is shown of every picture, by label, the network's result last; images (pictures, channels, rows, columns).

    A masked network is shown as in evaluation, with the masks of the held-out data; a decoder reads the picture as it
    is: to what shall be denoised no noise is added.
    """
    if network.mask_ratio:
        return recipe.task.panels(network, Batch(images), held_out_draw(recipe.task, network, 0, len(images)))
    label = "denoised" if recipe.task.name == "denoise" else "reconstruction"
    return {"picture": images, label: network.unpatchify(wide(network(images)))}


@torch.no_grad()
def errors(network: nn.Module, images: Tensor, recipe: Recipe) -> list[dict[str, float]]:
    """Of every picture: the error of the removed patches, or the mean squared difference of the result from it.

    In the units of the network's input, mostly [-1, 1].
    """
    if network.mask_ratio:
        draw = held_out_draw(recipe.task, network, 0, len(images))
        scores = recipe.task.scores(network, Batch(images), draw, None)
        return [{"masked_error": value} for value in scores["masked_error"].tolist()]
    difference = wide(network(images)) - network.patchify(images)
    return [{"squared_difference": value} for value in difference.square().flatten(1).mean(dim=1).tolist()]


def save(files: Sequence[Path], found: Mapping[str, Tensor], source: DataSource, out: Path) -> tuple[Path, list[Path]]:
    """A sheet of all columns, and the results as pictures of their own, numbered like the pictures."""
    folder = out / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    results = source.displayed(list(found.values())[-1].float()).cpu()
    written = []
    for number, (file, image) in enumerate(zip(files, results, strict=True), 1):
        written.append(folder / f"{number}-{file.stem}.png")
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        save_png(pixels, written[-1])
    return source.show(found, out / "predictions"), written


def save_png(pixels: np.ndarray, path: Path) -> None:
    picture = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    checkpoint.replace_file(path, lambda temporary: picture.save(temporary, format="PNG"))
