"""What a trained network makes of pictures: python -m runtime.predict RUN|WEIGHTS PICTURE ... [--top K] [--out DIR].

A classifier gives the most probable classes, a masked autoencoder and a decoder give pictures. Pictures are prepared as
the held-out ones of the recipe's data are; the data themselves need not be at hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from runtime.command import Parser, run
from runtime.errors import UserError
from runtime.predicting import classes, images
from runtime.predicting.reading import batch_of
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import pick_device
from runtime.storage import checkpoint
from runtime.storage.trained import Trained, add_arguments, network_of, recipe_of

TOP = 5  # classes that are shown
INSTEAD = {  # by kind of network
    "features": "its output are features: runtime.probe measures them",
    "language": "it writes text: see runtime.sample",
    "masked_language": "it reads text: runtime.evaluate shows which tokens it fills in",
    "tokens": "its tokens are its output",
}


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.predict", description="What a trained network makes of pictures.")
    add_arguments(parser)
    parser.add_argument("pictures", nargs="+", type=Path, metavar="PICTURE")
    parser.add_argument("--top", type=int, metavar="K", help=f"how many classes to show; default: {TOP}")
    parser.add_argument("--out", type=Path, help="where to write; default: the run's folder, or one beside the file")
    options = parser.parse_args(arguments)
    if options.top is not None and options.top < 1:
        raise UserError(f"--top is {options.top} and must be at least 1")
    trained = network_of(options.trained, options.weights)
    network = trained.compiled.module.eval()
    if network.task in INSTEAD:
        raise UserError(f"{trained.path}: this network predicts nothing of a picture, {INSTEAD[network.task]}")
    if options.top and network.task != "classify":
        raise UserError(f"{trained.path}: this network gives pictures and no classes, of which --top is the number")
    recipe = recipe_of(trained, options.recipe)
    recipe.task.check(network, network.classes)
    network.to(pick_device(recipe.device))
    entries = predicted(trained, recipe, network, options.pictures, options.top or TOP, options.out or trained.out)
    file = (options.out or trained.out) / "predictions.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"network": trained.compiled.name, "weights": str(trained.file), "predictions": entries}
    checkpoint.replace_text(file, json.dumps(content, indent=1) + "\n")
    print(f"figures: {file}")


def predicted(
    trained: Trained, recipe: Recipe, network: nn.Module, files: Sequence[Path], top: int, out: Path
) -> list[dict[str, object]]:
    """Show what the network makes of the pictures; returns what is kept of each."""
    batch = batch_of(files, recipe.data, trained.compiled.shape).to(next(network.parameters()).device)
    parts = batch.split(recipe.evaluate_batch)
    if network.task == "classify":
        names = recipe.data.class_names()
        names = names if names is not None and len(names) == network.classes else None  # else they are of other classes
        found = [guess for part in parts for guess in classes.guesses(network, part, top)]
        classes.show(files, found, names)
        return classes.entries(files, found, names)
    columns = [images.columns(network, part, recipe) for part in parts]
    joined = {label: torch.cat([part[label] for part in columns]) for label in columns[0]}
    sheet, written = images.save(files, joined, recipe.data, out)
    print(f"all together: {sheet}")
    for file in written:
        print(f"picture: {file}")
    errors = [error for part in parts for error in images.errors(network, part, recipe)]
    rows = zip(files, written, errors, strict=True)
    return [{"picture": str(file), "result": str(result)} | error for file, result, error in rows]


if __name__ == "__main__":
    run(main)
