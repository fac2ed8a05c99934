"""What the training loop costs over a bare PyTorch one: python -m runtime.overhead SPEC [--recipe NAME] [key=value].

Both loops take batches from the same loader and do the same arithmetic, in turns of a few steps in one process: the
runtime's, with its checks, log and meter, and one as it is written by hand. The time of a step is split into waiting
for data and computing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from runtime import seeds
from runtime.bench.race import synchronise
from runtime.command import Parser, run
from runtime.errors import UserError
from runtime.parallel import World
from runtime.storage.log import Log, console
from runtime.storage.run_folder import create
from runtime.training.launch import prepared
from runtime.training.sampler import stream
from runtime.training.trainer import Trainer

STEPS = 20  # of one turn


@dataclass(frozen=True)
class Turn:
    """Seconds of the steps of one turn, and of waiting for data within them."""

    seconds: float
    waited: float


def main(arguments: Sequence[str]) -> None:
    parser = Parser(prog="python -m runtime.overhead", description="The training loop beside a bare PyTorch one.")
    parser.add_argument("spec", type=Path, metavar="SPEC")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="entries of the recipe")
    parser.add_argument("--recipe", help="a recipe by name or file; default: by the network")
    parser.add_argument("--rounds", type=int, default=20, help=f"turns of {STEPS} steps of each loop, default 20")
    options = parser.parse_intermixed_args(arguments)
    if options.rounds < 1:
        raise UserError(f"--rounds: at least 1 is needed, {options.rounds} were given")
    length = f"steps={2 * STEPS * (options.rounds + 1)}"
    overrides = [*options.overrides, length, "epochs=null", "ema=null", "clip=null", f"log_every={STEPS}"]
    _, begun = prepared(options.spec, options.recipe, overrides, World())
    with tempfile.TemporaryDirectory() as place:
        folder = create(Path(place), begun.recipe, begun.compiled, options.spec.name)
        show(compared(Trainer(begun.recipe, begun.compiled, begun.splits, folder), options.rounds))


def compared(trainer: Trainer, rounds: int) -> dict[str, list[Turn]]:
    """Turns of both loops, one after the other; the first of each, in which memory is taken, is left out."""
    recipe = trainer.recipe
    pin = trainer.device.type == "cuda"
    batches = stream(trainer.batches, 0, trainer.total, recipe.workers, pin, prefetch=recipe.prefetch)
    turns: dict[str, list[Turn]] = {"this loop": [], "bare loop": []}
    with Log(trainer.folder, 0, trainer.total) as log:
        log.console.quiet = True
        trainer.trained.train()
        own = range(trainer.parts)
        loops: dict[str, Callable[[], float]] = {
            "this loop": lambda: full(trainer, batches, own, log),
            "bare loop": lambda: bare(trainer, batches),
        }
        for number in range(rounds + 1):
            for name, loop in loops.items():
                synchronise(trainer.device)
                started = time.perf_counter()
                waited = loop()
                synchronise(trainer.device)
                if number:
                    turns[name].append(Turn(time.perf_counter() - started, waited))
    return turns


def full(trainer: Trainer, batches: object, own: range, log: Log) -> float:
    """The runtime's own steps."""
    trainer.meter.restart()
    for _ in range(STEPS):
        figures = trainer.update(batches, own)
        trainer.step += 1
        log.advance(trainer.step)
    waited = trainer.meter.waited
    log.train(trainer.step, figures | trainer.meter.read(STEPS))
    return waited


def bare(trainer: Trainer, batches: object) -> float:
    """What one would write by hand: no checks, no accumulation over processes, no log."""
    waited, recipe, task = 0.0, trainer.recipe, trainer.recipe.task
    for _ in range(STEPS):
        trainer.optimizer.zero_grad(set_to_none=True)
        draw = task.draw(trainer.network, recipe.batch, seeds.torch_generator(seeds.DRAW, recipe.seed, trainer.step))
        for part in range(trainer.parts):
            before = time.perf_counter()
            batch = next(batches).to(trainer.device)
            waited += time.perf_counter() - before
            rows, key = slice(part * len(batch), (part + 1) * len(batch)), (recipe.seed, trainer.step)
            batch = recipe.augmentation.apply(batch, recipe.data, key, rows, recipe.batch, trainer.splits.classes)
            noise = None if draw is None else draw[rows].to(trainer.device)
            loss = trainer.objective(batch.inputs, batch.labels, noise)
            (loss[0] / trainer.parts).backward()
        trainer.optimizer.step()
        task.after_step(trainer.trained, trainer.step, trainer.total)
        trainer.step += 1
    return waited


def show(turns: dict[str, list[Turn]]) -> None:
    table = Table(title=f"milliseconds per step, median of {len(turns['bare loop'])} turns", title_justify="left")
    for name in ("loop", "step", "data", "compute"):
        table.add_column(name, justify="left" if name == "loop" else "right")
    for name, found in turns.items():
        step = median(turn.seconds for turn in found) / STEPS * 1e3
        data = median(turn.waited for turn in found) / STEPS * 1e3
        table.add_row(name, f"{step:.2f}", f"{data:.2f}", f"{step - data:.2f}")
    console().print(table)
    ratios = sorted(a.seconds / b.seconds - 1 for a, b in zip(*turns.values(), strict=True))
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    console().print(f"overhead {median(ratios):+.1%}, turn by turn (middle half {low:+.1%} to {high:+.1%})")


if __name__ == "__main__":
    run(main)
