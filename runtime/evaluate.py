"""Figures and pictures of a trained network: python -m runtime.evaluate RUN|WEIGHTS [--split] [--out DIR] [key=value].

A weights file of ours says which network it is; what it is measured on says a recipe (by default that of its kind).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runtime.command import Parser, run
from runtime.scoring.measure import pick_device
from runtime.scoring.report import report
from runtime.storage.run_folder import RunFolder
from runtime.storage.trained import add_arguments, network_of, recipe_of, splits_of


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.evaluate", description="Figures and pictures of a trained network.")
    add_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the recipe")
    parser.add_argument("--split", choices=("held_out", "train"), default="held_out", help="default: held_out")
    parser.add_argument("--out", type=Path, help="where to write; default: the run's folder, or one beside the file")
    options = parser.parse_intermixed_args(arguments)
    trained = network_of(options.trained, options.weights)
    recipe = recipe_of(trained, options.recipe, options.overrides)
    splits = splits_of(trained, recipe)
    recipe.task.check(trained.compiled.module, splits.classes)
    network = trained.compiled.module.to(pick_device(recipe.device))
    folder = trained.folder or RunFolder(trained.path)
    report(folder, recipe, network, splits, options.split, trained.kind, options.out or trained.out)


if __name__ == "__main__":
    run(main)
