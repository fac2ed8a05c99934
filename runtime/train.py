"""Train the network of a spec: python -m runtime.train SPEC [--recipe NAME|FILE] [--out DIR] [key=value ...]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crate_dsl
from runtime import parallel
from runtime.data.source import Splits
from runtime.errors import Parser, UserError, run
from runtime.evaluate import restore
from runtime.network import Compiled, compile_network, kind_of, parameter_count
from runtime.parallel import World
from runtime.recipe import recipes
from runtime.recipe.schema import Recipe
from runtime.scoring.report import report
from runtime.storage import checkpoint
from runtime.storage.run_folder import RunFolder, create, unused
from runtime.training.trainer import Trainer, check


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.train", description="Train the network of a spec, or resume a run.")
    parser.add_argument("words", nargs="*", metavar="SPEC key=value", help="the spec, and entries of the recipe")
    parser.add_argument("--recipe", help="a recipe of specs/recipes by name, or a YAML file; default: by the network")
    parser.add_argument("--out", type=Path, help="the run's folder; default: a new one below runs/")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in this folder")
    options = parser.parse_intermixed_args(arguments)
    overrides = [word for word in options.words if "=" in word]
    specs = [word for word in options.words if "=" not in word]
    if options.resume and (overrides or options.recipe or options.out):
        raise UserError("a resumed run keeps its recipe and folder: give --resume DIR alone, or with its spec")
    if not options.resume and len(specs) != 1:
        raise UserError(f"one spec is needed, {len(specs)} were given\n{parser.format_usage().strip()}")
    with parallel.world() as world:
        if options.resume:
            trainer = resumed(options.resume, [Path(spec) for spec in specs], world)
        else:
            trainer = fresh(Path(specs[0]), options.recipe, overrides, options.out, world)
        trainer.run()
        finish(trainer)


def finish(trainer: Trainer) -> None:
    """Figures and pictures of the last weights, which a network in slices would need all processes for."""
    folder, recipe, splits = trainer.folder, trainer.recipe, trainer.splits
    if not trainer.world.main:
        return
    network = trainer.judged
    if trainer.world.size > 1:
        network = trainer.compiled.fresh()
        restore(folder, network, "last")
        network.to(trainer.device)
    report(folder, recipe, network, splits, "held_out", "last", folder.path)


@dataclass(frozen=True)
class Start:
    """What a run begins with, in every process."""

    recipe: Recipe
    compiled: Compiled
    splits: Splits


def start(spec: Path, recipe: Recipe, world: World) -> Start:
    """Compile, open the data, and see that they belong together."""
    compiled = compile_network(spec, recipe.preset, recipe.sizes, recipe.seed)
    splits = recipe.data.splits(compiled.shape)
    check(recipe, compiled.module, splits, world)
    return Start(recipe, compiled, splits)


def fresh(spec: Path, recipe_name: str | None, overrides: Sequence[str], out: Path | None, world: World) -> Trainer:
    """A new run, with its folder made and its resolved recipe printed."""

    def build() -> tuple[str, Start]:
        name = recipe_name or recipes.default(kind_of(spec))
        return name, start(spec, recipes.load(recipes.find(name), overrides), world)

    name, begun = world.first_alone(build)
    path = world.all_of(out or unused(f"{spec.stem}-{Path(name).stem}"))[0]
    trainer = Trainer(begun.recipe, begun.compiled, begun.splits, RunFolder(path), world)
    if world.main:  # only now, so that a refused recipe leaves no folder
        create(path, begun.recipe, begun.compiled, spec.name)
        size = f"{parameter_count(begun.compiled.module):,} parameters"
        processes = f"; {world.size} processes ({begun.recipe.parallel})" if world.size > 1 else ""
        print(f"{begun.compiled.name}: {size}; recipe {name}; {trainer.total} steps{processes}")
        print(trainer.rates.in_words())
        print(recipes.text_of(begun.recipe) + f"run folder: {path}", flush=True)
    return trainer


def resumed(path: Path, specs: Sequence[Path], world: World) -> Trainer:
    """A run where it stopped, with any number of processes; from its start where it was killed before it saved."""
    folder = RunFolder(path)

    def build() -> tuple[Start, dict[str, Any] | None, str]:
        for spec in specs:
            require_spec(folder, spec)
        folder.require()
        begun = start(folder.spec, recipes.load(folder.recipe), world)
        if not (folder.state.exists() or checkpoint.before(folder.state).exists()):
            return begun, None, f"{path}: the run stopped before its first checkpoint, so it begins again"
        return begun, *checkpoint.load_state(folder.state)

    begun, state, note = world.first_alone(build)
    trainer = Trainer(begun.recipe, begun.compiled, begun.splits, folder, world)
    if state:
        trainer.load(state)
    if trainer.step >= trainer.total:
        raise world.refuse(f"{path}: the run is finished after {trainer.step} steps; look at it with runtime.evaluate")
    if world.main:
        warn_of_other_text(folder, begun.compiled.text)
        print(note, end="\n" if note else "")
        print(f"{begun.compiled.name}: resumed after step {trainer.step} of {trainer.total}", flush=True)
    return trainer


def require_spec(folder: RunFolder, spec: Path) -> None:
    """Raises UserError where a run is of another spec than the one named beside --resume."""
    folder.require()
    if crate_dsl.compile_spec(spec).resolved != folder.spec.read_text(encoding="utf-8"):
        raise UserError(f"{folder.path}: this run is not of {spec} as it stands now; its spec is {folder.spec}")


def warn_of_other_text(folder: RunFolder, text: str) -> None:
    """A newer compiler may write another module for the same spec; the banner names the file and always differs."""
    kept = folder.module.read_text(encoding="utf-8") if folder.module.exists() else text
    if body(kept) != body(text):
        print(f"note: this compiler writes the network otherwise than {folder.module} has it")


def body(text: str) -> str:
    """A written module without its banner."""
    return text.partition("from __future__")[2]


if __name__ == "__main__":
    run(main)
