"""Figures and pictures of a trained network: python -m runtime.evaluate RUN [--split] [--weights] [--out DIR]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from runtime.errors import Parser, UserError, run
from runtime.scoring.measure import pick_device
from runtime.scoring.report import report
from runtime.storage import checkpoint
from runtime.storage.run_folder import RunFolder, reopen


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.evaluate", description="Figures and pictures of a trained network.")
    parser.add_argument("run", type=Path, help="the folder of a run")
    parser.add_argument("--split", choices=("held_out", "train"), default="held_out", help="default: held_out")
    parser.add_argument("--weights", choices=("last", "best"), default="last", help="best: by the held-out metric")
    parser.add_argument("--out", type=Path, help="where to write; default: the run's folder")
    options = parser.parse_args(arguments)
    folder, recipe, compiled = reopen(options.run)
    restore(folder, compiled.module, options.weights)
    network = compiled.module.to(pick_device(recipe.device))
    splits = recipe.splits(compiled.shape)
    report(folder, recipe, network, splits, options.split, options.weights, options.out or folder.path)


def restore(folder: RunFolder, network: nn.Module, kind: str) -> None:
    """Load the last or the best weights of a run; raises UserError where they do not fit its spec."""
    file = folder.weights if kind == "last" else folder.best
    if not file.exists():
        raise UserError(f"{folder.path}: the run stopped before it wrote {file.name}")
    weights, _ = checkpoint.load_weights(file)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{file}: these weights belong to another network than {folder.spec}: {error}") from None


if __name__ == "__main__":
    run(main)
