"""A run in small before the run: two steps, evaluated, saved, and gone on with from the checkpoint of the first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from runtime.data.source import First, Splits
from runtime.network import Compiled
from runtime.parallel import World
from runtime.recipe.schema import Recipe
from runtime.storage import checkpoint
from runtime.storage.run_folder import RunFolder, create
from runtime.training.trainer import Trainer

STEPS = 2
Make = Callable[[], Compiled]  # the network as it is before training


def rehearse(recipe: Recipe, make: Make, splits: Splits, world: World) -> None:
    """Everything that a run does, once, in a folder that is gone afterwards.

    Raises UserError for whatever the run itself would refuse, and where the run that went on from the checkpoint
    ends with other weights than the one that went through (on an accelerator to rounding, on a processor to the bit).
    """
    often = {"evaluate_every": STEPS, "checkpoint_every": 1, "log_every": 1, "wandb": None}
    short = recipe.model_copy(update={"steps": STEPS, "epochs": None, **often})
    few = Splits(splits.train, First(splits.held_out, 2 * recipe.evaluate_batch), splits.classes)
    with tempfile.TemporaryDirectory() as place:
        path = Path(world.all_of(place)[0])
        straight = trained(short, make(), few, path / "straight", world)
        again = make()
        trainer = Trainer(short, again, few, create_on_main(path / "resumed", short, again, world), world)
        if world.main:
            print(f"dry run: {STEPS} steps, evaluation and checkpoints done; now from the checkpoint of the first step")
        trainer.load(checkpoint.read_state(checkpoint.before(straight.folder.state)))
        trainer.run()
        compare(straight, trainer, world)
        world.all_of(None)  # nobody still reads the folder when it goes


def trained(recipe: Recipe, compiled: Compiled, splits: Splits, path: Path, world: World) -> Trainer:
    trainer = Trainer(recipe, compiled, splits, create_on_main(path, recipe, compiled, world), world)
    trainer.run()
    return trainer


def create_on_main(path: Path, recipe: Recipe, compiled: Compiled, world: World) -> RunFolder:
    if world.main:
        create(path, recipe, compiled, compiled.name)
    world.all_of(None)
    return RunFolder(path)


def compare(straight: Trainer, resumed: Trainer, world: World) -> None:
    """Raises UserError where the two do not end alike."""
    mine, theirs = straight.state()["network"], resumed.state()["network"]
    exact = straight.device.type == "cpu"
    for name, value in mine.items():
        same = torch.equal(value, theirs[name]) if exact else torch.allclose(value, theirs[name], rtol=1e-3, atol=1e-5)
        if not same:
            raise world.refuse(f"dry run: after resuming, {name} differs from that of the run that went through")
    if world.main:
        print(f"dry run: fine, the resumed run ended with {'the same bits' if exact else 'the same weights'}")
