"""One network of several that are compared: trained in a folder of its own, measured, and kept for the next time."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from runtime.data.source import Images, Splits
from runtime.errors import UserError
from runtime.network import Compiled, parameter_count
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import held_out_draw, measure, reference_of
from runtime.storage import checkpoint
from runtime.storage.run_folder import RunFolder, create, stated_in
from runtime.tasks.task import Task
from runtime.training.trainer import Trainer

SAMPLE = 64  # held-out images over which energies are averaged


@dataclass(frozen=True)
class Outcome:
    """A trained network: its size, seconds of training, figures on the held-out split, and where its energies go.

    `falls` maps "encoder.compress" to the number of layers whose stated energy falls, and the number of layers.
    """

    parameters: int
    seconds: float
    figures: dict[str, float]
    falls: dict[str, tuple[int, int]]


def train(compiled: Compiled, recipe: Recipe, splits: Splits, path: Path, spec_name: str) -> Outcome:
    """A whole run; one that was interrupted is continued, one that is finished is read back.

    Raises:
        UserError: where the folder holds a run of something else, or training fails.
    """
    if recipe.initialisation is not None:
        raise UserError("networks that are compared start from scratch: leave initialisation out of the recipe")
    if finished := outcome_of(path, compiled, recipe):
        return finished
    trainer = Trainer(recipe, compiled, splits, RunFolder(path))
    if not RunFolder(path).recipe.exists():
        create(path, recipe, compiled, spec_name)
    elif trainer.folder.state.exists():
        trainer.load(checkpoint.load_state(trainer.folder.state)[0])
    seconds = timed(trainer, path / "seconds.json")
    trainer.refresh_judged()  # of a run whose last step was done before, nothing else has
    reference = reference_of(recipe.task, trainer.judged, splits.train, recipe.evaluate_batch)
    judged, batch = trainer.judged, recipe.evaluate_batch
    figures = measure(recipe.task, judged, splits.held_out, batch, recipe.precision, reference)
    falls = falling(recipe.task, judged, splits.held_out)
    outcome = Outcome(parameter_count(compiled.module), seconds, figures, falls)
    checkpoint.replace_text(path / "outcome.json", json.dumps(asdict(outcome), indent=1) + "\n")
    return outcome


def outcome_of(path: Path, compiled: Compiled, recipe: Recipe) -> Outcome | None:
    """What a finished run has left, None where it is not finished; raises UserError where it is another run."""
    folder, kept = RunFolder(path), path / "outcome.json"
    if not folder.recipe.exists():
        return None
    require_spec(folder, compiled.spec)
    require_recipe(folder, recipe)
    return read(kept) if kept.exists() else None


def require_spec(folder: RunFolder, text: str) -> None:
    if folder.spec.read_text(encoding="utf-8") != text:
        raise UserError(
            f"{folder.path} holds a run of another spec: choose another --out;"
            f" {folder.spec} is what it was trained from"
        )


def require_recipe(folder: RunFolder, recipe: Recipe) -> None:
    if stated_in(folder) != recipe:
        raise UserError(
            f"{folder.path} holds a run with another recipe: choose another --out, or give the same options"
        )


def read(file: Path) -> Outcome:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Outcome(**content | {"falls": {name: tuple(count) for name, count in content["falls"].items()}})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file}: not what a finished run leaves ({error}); delete it to measure again") from None


def timed(trainer: Trainer, file: Path) -> float:
    """Train to the end; returns the seconds, with those before an interruption."""
    before = float(json.loads(file.read_text(encoding="utf-8"))) if file.exists() and trainer.step else 0.0
    started = time.perf_counter()
    try:
        trainer.run()
    finally:
        seconds = before + time.perf_counter() - started
        checkpoint.replace_text(file, json.dumps(seconds) + "\n")
    return seconds


@torch.no_grad()
def falling(task: Task, network: nn.Module, images: Images) -> dict[str, tuple[int, int]]:
    """Of how many layers each step's stated energy falls, averaged over some held-out images, as the step reads them.

    Empty for a network that reports no energies.
    """
    if not hasattr(network, "energies"):
        return {}
    count = min(SAMPLE, len(images))
    batch = images.take(range(count), None).to(next(network.parameters()).device)
    found = network.eval().energies(*task.inputs(batch.inputs, held_out_draw(task, network, 0, count)))
    counts: dict[str, tuple[int, int]] = {}
    for name, (before, after) in found.items():
        role, _, label = name.split(".")
        falls, layers = counts.get(f"{role}.{label}", (0, 0))
        counts[f"{role}.{label}"] = falls + int(after.mean() < before.mean()), layers + 1
    return counts
