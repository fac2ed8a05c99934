"""Train the network of a spec: python -m runtime.train SPEC [--recipe NAME|FILE] [--out DIR] [key=value ...]."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import crate_dsl
from runtime.errors import Parser, UserError, run
from runtime.network import compile_network, kind_of, parameter_count
from runtime.recipe import recipes
from runtime.scoring.report import report
from runtime.storage import checkpoint
from runtime.storage.run_folder import RunFolder, create, reopen, unused
from runtime.training.trainer import Trainer
from runtime.transfer import start


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.train", description="Train the network of a spec, or resume a run.")
    parser.add_argument("words", nargs="*", metavar="SPEC key=value", help="the spec, and entries of the recipe")
    parser.add_argument("--recipe", help="a recipe of specs/recipes by name, or a YAML file; default: by the network")
    parser.add_argument("--out", type=Path, help="the run's folder; default: a new one below runs/")
    parser.add_argument("--resume", type=Path, metavar="DIR", help="continue the run in this folder")
    options = parser.parse_intermixed_args(arguments)
    overrides = [word for word in options.words if "=" in word]
    specs = [word for word in options.words if "=" not in word]
    if options.resume:
        if overrides or options.recipe or options.out:
            raise UserError("a resumed run keeps its recipe and folder: give --resume DIR alone, or with its spec")
        for spec in specs:
            require_spec(RunFolder(options.resume), Path(spec))
        trainer = resumed(options.resume)
    elif len(specs) == 1:
        trainer = fresh(Path(specs[0]), options.recipe, overrides, options.out)
    else:
        raise UserError(f"one spec is needed, {len(specs)} were given\n{parser.format_usage().strip()}")
    trainer.run()
    report(trainer.folder, trainer.recipe, trainer.judged, trainer.splits, "held_out", "last", trainer.folder.path)


def fresh(spec: Path, recipe_name: str | None, overrides: Sequence[str], out: Path | None) -> Trainer:
    """A new run, with its folder made and its resolved recipe printed."""
    name = recipe_name or recipes.default(kind_of(spec))
    recipe = recipes.load(recipes.find(name), overrides)
    compiled = compile_network(spec, recipe.preset, recipe.sizes, recipe.seed)
    recipe, taken = start.begin(recipe, compiled)
    splits = recipe.data.splits(compiled.shape)
    path = out or unused(f"{spec.stem}-{Path(name).stem}")
    trainer = Trainer(recipe, compiled, splits, RunFolder(path))
    create(path, recipe, compiled, spec.name)  # only now, so that a refused recipe leaves no folder
    start.keep(path, recipe, taken)
    print(f"{compiled.name}: {parameter_count(compiled.module):,} parameters; recipe {name}; {trainer.total} steps")
    print(recipes.text_of(recipe) + f"run folder: {path}", flush=True)
    return trainer


def resumed(path: Path) -> Trainer:
    """A run where it stopped; raises UserError when there is nothing to continue."""
    folder, recipe, compiled = reopen(path)
    if not folder.state.exists():
        raise UserError(f"{path}: the run stopped before its first checkpoint, there is nothing to resume")
    start.freeze(recipe, compiled.module)
    trainer = Trainer(recipe, compiled, recipe.data.splits(compiled.shape), folder)
    trainer.load(checkpoint.load_state(folder.state))
    if trainer.step >= trainer.total:
        raise UserError(f"{path}: the run is finished after {trainer.step} steps; look at it with runtime.evaluate")
    warn_of_other_text(folder, compiled.text)
    print(f"{compiled.name}: resumed after step {trainer.step} of {trainer.total}", flush=True)
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
