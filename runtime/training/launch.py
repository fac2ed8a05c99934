"""How a run begins, alone or in several processes: anew from spec and recipe, or going on from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crate_dsl
from runtime.data.source import Splits
from runtime.errors import UserError
from runtime.images.augmentation import Augmentation
from runtime.network import Compiled, has_kernels, kind_of, parameter_count
from runtime.parallel import World
from runtime.recipe import recipes
from runtime.recipe.compiling import compile_recipe
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import pick_device
from runtime.storage import checkpoint, untrusted
from runtime.storage.run_folder import RunFolder, create, recipe_in, unused
from runtime.training.trainer import Trainer, check
from runtime.transfer import initialisation
from runtime.transfer.initialisation import Origin


@dataclass(frozen=True)
class Start:
    """What a run begins with, in every process."""

    recipe: Recipe
    compiled: Compiled
    splits: Splits
    origin: Origin | None  # of the weights, where they are not initialised at random


def start(spec: Path, recipe: Recipe, world: World, initialised: bool = True) -> Start:
    """Compile, take the weights to start from (unless a checkpoint has them), open the data, see that all fits."""
    gpu = has_kernels(pick_device(recipe.device))
    compiled = compile_recipe(spec, recipe, gpu)
    recipe, origin = initialisation.begin(recipe, compiled) if initialised else (recipe, None)
    initialisation.freeze(recipe, compiled.module)
    splits = recipe.splits(compiled.shape)
    check(recipe, compiled.module, splits, world)
    return Start(recipe, compiled, splits, origin)


def prepared(spec: Path, recipe_name: str | None, overrides: Sequence[str], world: World) -> tuple[str, Start]:
    """The recipe's name, and what a new run begins with."""
    name, recipe = chosen(spec, recipe_name, overrides)
    return name, start(spec, recipe, world)


def chosen(spec: Path, recipe_name: str | None, overrides: Sequence[str]) -> tuple[str, Recipe]:
    """The recipe, by name or by the kind of network; a run that learns a few inputs by heart takes them all at once."""
    name = recipe_name or recipes.default(kind_of(spec))
    recipe = recipes.load(recipes.find(name), overrides)
    if recipe.overfit:
        recipe = recipe.model_copy(
            update={"batch": min(recipe.batch, recipe.overfit), "accumulate": 1, "augmentation": Augmentation()}
        )
    return name, recipe


def fresh(spec: Path, recipe_name: str | None, overrides: Sequence[str], out: Path | None, world: World) -> Trainer:
    """A new run, with its folder made and its resolved recipe printed."""
    name, begun = world.first_alone(lambda: prepared(spec, recipe_name, overrides, world))
    path = world.all_of(out or unused(f"{spec.stem}-{Path(name).stem}"))[0]
    trainer = Trainer(begun.recipe, begun.compiled, begun.splits, RunFolder(path), world)
    if world.main:  # only now, so that a refused recipe leaves no folder
        create(path, begun.recipe, begun.compiled, spec.name)
        if begun.origin:
            initialisation.tell(begun.origin)
            initialisation.keep(path, begun.recipe, begun.origin)
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
        saved = folder.state.exists() or checkpoint.before(folder.state).exists()
        begun = start(folder.spec, recipe_in(folder), world, initialised=not saved)
        if not saved:
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
        warn_of_other_data(state or {}, len(begun.splits.train))
        print(f"{begun.compiled.name}: resumed after step {trainer.step} of {trainer.total}", flush=True)
    return trainer


def warn_of_other_data(state: Mapping[str, Any], count: int) -> None:
    before = state.get("inputs", count)  # states of earlier versions do not say
    if before != count:
        print(
            f"note: the training data had {before:,} inputs before and have {count:,} now; epochs, their order and"
            " schedules counted in epochs are others than before"
        )


def require_spec(folder: RunFolder, spec: Path) -> None:
    """Raises UserError where a run is of another spec than the one named beside --resume."""
    folder.require()
    if crate_dsl.compile_spec(spec).resolved != untrusted.read_text(folder.spec):
        raise UserError(
            f"{folder.path}: this run is not of {spec} as it stands now; its spec is {folder.spec}:"
            f" leave {spec} out to go on with that"
        )


def warn_of_other_text(folder: RunFolder, text: str) -> None:
    """A newer compiler may write another module for the same spec; the banner names the file and always differs."""
    kept = untrusted.read_text(folder.module) if folder.module.exists() else text
    if body(kept) != body(text):
        print(f"note: this compiler writes the network otherwise than {folder.module} has it")


def body(text: str) -> str:
    """A written module without its banner."""
    return text.partition("from __future__")[2]
