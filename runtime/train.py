"""Train the network of a spec: python -m runtime.train SPEC [--recipe NAME|FILE] [--out DIR] [key=value ...].

The same command under torchrun trains in several processes: torchrun --nproc-per-node 8 -m runtime.train SPEC ...
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from runtime import parallel
from runtime.command import Parser, run
from runtime.errors import UserError
from runtime.parallel import World
from runtime.recipe.compiling import compile_recipe
from runtime.scoring.report import report
from runtime.storage.trained import network_of
from runtime.training.estimate import estimate
from runtime.training.launch import chosen, fresh, prepared, resumed, start
from runtime.training.rehearsal import rehearse
from runtime.training.trainer import Trainer


def main(arguments: Sequence[str]) -> None:
    options, specs, overrides = parsed(arguments)
    with parallel.world() as world:
        if options.resume:
            train(resumed(options.resume, specs, world))
        elif options.estimate:
            if world.main:
                show_estimate(specs[0], options.recipe, overrides)
        elif options.dry_run:
            show_rehearsal(specs[0], options.recipe, overrides, world)
        else:
            train(fresh(specs[0], options.recipe, overrides, options.out, world))


def parsed(arguments: Sequence[str]) -> tuple[Namespace, list[Path], list[str]]:
    """Options, specs and entries of the recipe; raises UserError where they do not go together."""
    parser = Parser(prog="python -m runtime.train", description="Train the network of a spec, or resume a run.")
    parser.add_argument("words", nargs="*", metavar="SPEC key=value", help="the spec, and entries of the recipe")
    parser.add_argument("--recipe", help="a recipe of specs/recipes by name, or a YAML file; default: by the network")
    parser.add_argument("--out", type=Path, help="the run's folder; default: a new one below runs/")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in this folder")
    instead.add_argument("--dry-run", action="store_true", help="two steps, evaluation, saving, resuming")
    instead.add_argument("--estimate", action="store_true", help="parameters, operations, memory, time")
    instead.add_argument("--overfit", type=int, metavar="N", help="learn the first N training inputs by heart")
    options = parser.parse_intermixed_args(arguments)
    overrides = [word for word in options.words if "=" in word]
    if options.resume and (overrides or options.recipe or options.out):
        raise UserError("a resumed run keeps its recipe and folder: give --resume DIR alone, or with its spec")
    specs = [Path(word) for word in options.words if "=" not in word]
    if not options.resume:
        parser.one_spec(options.words)
    if options.out and (options.dry_run or options.estimate):
        raise UserError("--dry-run and --estimate keep nothing: leave --out away")
    if options.overfit is not None:
        overrides.append(f"overfit={options.overfit}")
    return options, specs, overrides


def train(trainer: Trainer) -> None:
    """Run to the end, then figures and pictures of the last weights, for which slices would need all processes."""
    trainer.run()
    folder, recipe, splits = trainer.folder, trainer.recipe, trainer.splits
    if not trainer.world.main:
        return
    network = trainer.judged
    if trainer.world.size > 1:
        network = network_of(folder.path).compiled.module.to(trainer.device)
    report(folder, recipe, network, splits, "held_out", "last", folder.path)


def show_estimate(spec: Path, recipe_name: str | None, overrides: Sequence[str]) -> None:
    """Of this spec and recipe; the length of an epoch is known only where the data are here."""
    _, recipe = chosen(spec, recipe_name, overrides)
    estimate(recipe, compile_recipe(spec, recipe))


def show_rehearsal(spec: Path, recipe_name: str | None, overrides: Sequence[str], world: World) -> None:
    """Raises UserError for whatever the run would refuse."""
    _, begun = world.first_alone(lambda: prepared(spec, recipe_name, overrides, world))
    recipe = begun.recipe
    rehearse(recipe, lambda: start(spec, recipe, world).compiled, begun.splits, world)


if __name__ == "__main__":
    run(main, outlasts=True)
