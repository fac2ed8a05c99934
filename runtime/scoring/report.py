"""What is known of a trained network: figures as table and JSON, and pictures that say what they show."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from rich.table import Table
from torch import nn

from runtime.data.source import Splits
from runtime.images import pictures
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import held_out_draw, measure, reference_of
from runtime.storage import checkpoint
from runtime.storage.log import console, read_metrics
from runtime.storage.run_folder import RunFolder

SHOWN = 8  # images in a picture

EXPLANATIONS = {
    "accuracy": "share of images, or of next tokens, whose most probable guess is right",
    "cross_entropy": "mean cross-entropy, nats",
    "masked_error": "mean squared error over the pixels of removed patches",
    "mean_fill_error": "the same error when each removed patch is filled with its average over training images",
    "visible_fill_error": "the same when it is filled with the average of the visible patches of its image",
    "ratio_to_mean_fill": "masked_error / mean_fill_error",
    "error": "mean squared error over all pixels",
    "noisy_db": "peak signal-to-noise ratio of the noisy images, dB",
    "denoised_db": "the same of the denoised images, dB",
    "gain_db": "denoised_db - noisy_db",
    "loss": "mean cross-entropy of the next token, nats",
    "perplexity": "exp(loss)",
    "masked_loss": "mean cross-entropy of the removed tokens, nats",
    "masked_accuracy": "share of the removed tokens whose most probable guess is right",
    "unigram_loss": "cross-entropy of the same tokens by their frequency in the training text alone",
    "unigram_accuracy": "share of the same tokens that are the most frequent one of the training text",
    "penalty": "what the energies of the loss add to it",
    "knn_accuracy": "share of images that their 20 nearest training images (of 10,000 at most) classify rightly",
    "knn_untrained": "the same by the features of an untrained network",
    "knn_pixels": "the same by the pixels of the images, averaged to at most 32 x 32",
    "effective_rank": "of those training images' features; 1 is collapse",
    "coding_rate": "of those training images' features at a squared error of 0.5, nats",
}


def report(
    folder: RunFolder, recipe: Recipe, network: nn.Module, splits: Splits, split: str, weights: str, out: Path
) -> dict[str, float]:
    """Measure, print, and write `evaluation-SPLIT.json` and the pictures below `out`."""
    network.eval()
    images = splits.of(split)
    reference = reference_of(recipe.task, network, splits.train, recipe.evaluate_batch)
    figures = measure(recipe.task, network, images, recipe.evaluate_batch, recipe.precision, reference)
    unit = recipe.data.unit
    seen = "those learned by heart (overfit)" if recipe.overfit else f"{split} split"
    show(f"{folder.path}: {weights} weights, {seen}, {len(images)} {unit}", figures)
    content = {"split": split, "weights": weights, unit: len(images), "figures": figures}
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    checkpoint.replace_text(out / f"evaluation-{split}.json", json.dumps(content, indent=1) + "\n")
    for file in draw(folder, recipe, network, splits, split, out / "pictures"):
        print(f"{'picture' if file.suffix == '.png' else 'text'}: {file}")
    return figures


def show(title: str, figures: dict[str, float]) -> None:
    table = Table("figure", "value", "what it is", title=title, title_justify="left")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}", EXPLANATIONS.get(name, ""))
    console().print(table)


@torch.no_grad()
def draw(folder: RunFolder, recipe: Recipe, network: nn.Module, splits: Splits, split: str, out: Path) -> list[Path]:
    """The loss curve and, where the task has something to show, a sheet of it; returns the files written."""
    written = []
    metrics = read_metrics(folder.metrics)
    if metrics:
        written.append(pictures.curve(metrics, recipe.task.metric, out / "curve.png"))
    images = splits.of(split)
    step = max(1, len(images) // SHOWN)  # spread over the split
    batch = images.take(range(0, len(images), step)[:SHOWN], None).to(next(network.parameters()).device)
    columns = recipe.task.panels(network, batch, held_out_draw(recipe.task, network, 0, len(batch)))
    if columns:
        written.append(recipe.data.show(columns, out / split))
    return written
