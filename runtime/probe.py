"""k nearest neighbours and a linear probe on frozen features: python -m runtime.probe RUN|WEIGHTS [key=value ...].

The protocol is printed and kept with the figures. Features are read in evaluation mode, with nothing masked and no
augmentation: the class token, or the mean of the patch tokens, after the norm that ends the encoder (`--features STEP`,
`--pool`). k-NN is that of DINO (cosine, k = 20, temperature 0.07); the linear probe is a logistic regression on
standardised features whose L2 penalty is chosen on a part of the training data. Beside them stand the same figures of
the untrained network and of the pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from runtime.command import Parser, run
from runtime.probing.features import POOLS, reading
from runtime.probing.protocol import probe, require_classes, show
from runtime.scoring.measure import pick_device
from runtime.self_supervision.self_supervised import untrained
from runtime.storage import checkpoint
from runtime.storage.trained import add_arguments, network_of, recipe_of, splits_of


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.probe", description="k-NN and a linear probe on frozen features.")
    add_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the recipe: data, device, batch")
    parser.add_argument("--features", metavar="STEP", help="after which step; default: the norm that ends the encoder")
    parser.add_argument("--pool", choices=POOLS, help="default: the class token where there is one, else the mean")
    parser.add_argument("--out", type=Path, help="where probe.json goes; default: the run's folder, or beside the file")
    options = parser.parse_intermixed_args(arguments)
    trained = network_of(options.trained, options.weights)
    recipe = recipe_of(trained, options.recipe, options.overrides)
    splits = splits_of(trained, recipe)
    network = trained.compiled.module.to(pick_device(recipe.device))
    require_classes(network, splits, recipe)
    example = splits.held_out.take([0], None).to(next(network.parameters()).device)
    read = reading(network, example.images, options.features, options.pool)
    found = probe(network, untrained(network), read, splits, recipe)
    show(f"{trained.path}: {trained.compiled.name}, {trained.kind} weights, held out", found)
    out = options.out or trained.out
    out.mkdir(parents=True, exist_ok=True)
    content = {"network": trained.compiled.name, "weights": str(trained.file), "step": read.step, "pool": read.pool}
    data = recipe.data.model_dump(mode="json")
    checkpoint.replace_text(out / "probe.json", json.dumps(content | {"data": data} | found.figures(), indent=1) + "\n")


if __name__ == "__main__":
    run(main)
