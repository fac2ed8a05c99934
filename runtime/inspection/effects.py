"""What each part of a network is good for: the task's own loss on the same inputs when the part is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from crate_dsl import Compilation
from runtime.data.source import Batch
from runtime.inspection.layers import layers
from runtime.inspection.places import places
from runtime.inspection.removal import Trace, heads, silenced, traced, without
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import autocast, held_out_draw
from runtime.scoring.neighbours import Neighbours
from runtime.tasks.task import wide

LOSSES: Mapping[str, str] = {  # scores of tasks that fall as the network gets better, with what they are
    "cross_entropy": "cross-entropy, nats",
    "loss": "cross-entropy of the next token, nats",
    "masked_loss": "cross-entropy of the removed tokens, nats",
    "masked_error": "mean squared error of the removed patches",
    "error": "mean squared error",
    "knn_error": "share of inputs that their nearest training images classify wrongly",
}
SHARES = ("accuracy", "masked_accuracy")

Change = Callable[[], AbstractContextManager[None]]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Score:
    """The loss of every input, (inputs,), and where the task has one the share of right guesses, (inputs,)."""

    loss: Tensor
    right: Tensor | None

    @property
    def mean(self) -> float:
        return float(self.loss.mean())

    @property
    def accuracy(self) -> float | None:
        return None if self.right is None else float(self.right.mean())

    def rise(self, before: Score) -> tuple[float, float | None]:
        """By how much the loss is above that of `before` on the same inputs, and the standard error of this mean.

        The error is that of the differences, input by input; None for a single input.
        """
        difference = self.loss - before.loss
        error = float(difference.std() / len(difference) ** 0.5) if len(difference) > 1 else None
        return float(difference.mean()), error


@dataclass(frozen=True)
class Part:
    """Some of the inputs with their mask or noise, and the tokens that enter every layer."""

    batch: Batch
    draw: Tensor | None
    trace: Trace


class Examination:
    """A network on fixed inputs. Parts of it are left out one at a time, and only what follows is computed again.

    Networks that give features are scored by the classes of the nearest of `known` training images, whose features
    are those of the same changed network; other tasks do not look at `known`.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, inputs: Batch, known: Batch | None) -> None:
        self.network, self.recipe = network, recipe
        self.device = next(network.parameters()).device
        self.inputs = self.parts(inputs)
        self.known = self.parts(known) if network.task == "features" and known is not None else []
        self.name = next(name for name in LOSSES if name in self.scores(nullcontext, None))
        self.whole = self.score(nullcontext, None)

    def parts(self, batch: Batch) -> list[Part]:
        task, size, found = self.recipe.task, self.recipe.evaluate_batch, []
        for first in range(0, len(batch), size):
            labels = None if batch.labels is None else batch.labels[first : first + size]
            piece = Batch(batch.inputs[first : first + size], labels).to(self.device)
            draw = held_out_draw(task, self.network, first, len(piece)) if self.network.task != "features" else None
            read = [value for value in task.inputs(piece.inputs, draw) if value is not None]
            with torch.no_grad(), autocast(self.device, self.recipe.precision):
                found.append(Part(piece, draw, traced(self.network, lambda read=read: self.network(*read))))
        return found

    @property
    def unit(self) -> str:
        """What the loss is, in words."""
        return LOSSES[self.name]

    def score(self, change: Change, start: str | None) -> Score:
        """The network within `change()`, computed from the layer `start` on; from its beginning where that is None."""
        scores = self.scores(change, start)
        right = next((scores[name] for name in SHARES if name in scores), None)
        return Score(scores[self.name], right)

    def scores(self, change: Change, start: str | None) -> dict[str, Tensor]:
        """Of every input, by name, on the CPU in float64."""
        if self.network.task == "features":
            return {"knn_error": self.neighbour_errors(change, start)}
        task = self.recipe.task
        found = self.computed(self.inputs, change, start, lambda p: task.scores(self.network, p.batch, p.draw, None))
        return {name: torch.cat([each[name] for each in found]).double().cpu() for name in found[0]}

    def neighbour_errors(self, change: Change, start: str | None) -> Tensor:
        def features(parts: Sequence[Part]) -> Tensor:
            return torch.cat(self.computed(parts, change, start, lambda p: wide(self.network(p.batch.inputs))))

        def labels(parts: Sequence[Part]) -> Tensor:
            return torch.cat([part.batch.labels for part in parts])

        voters = Neighbours(features(self.known), labels(self.known))
        return 1 - voters.right(features(self.inputs), labels(self.inputs)).double().cpu()

    @torch.no_grad()
    def computed(
        self, parts: Sequence[Part], change: Change, start: str | None, compute: Callable[[Part], Result]
    ) -> list[Result]:
        found = []
        for part in parts:
            with ExitStack() as stack:
                if start is not None:
                    stack.enter_context(part.trace.resumed(self.network, start))
                stack.enter_context(change())
                stack.enter_context(autocast(self.device, self.recipe.precision))
                found.append(compute(part))
        return found


# ---- what can be left out ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Removal:
    """One part to leave out: a layer, one `step` of it, or one `head` of this step."""

    layer: str
    step: str | None
    head: int | None
    change: Change

    @property
    def kind(self) -> str:
        return "layer" if self.step is None else "step" if self.head is None else "head"


def removals(compilation: Compilation, network: nn.Module) -> Iterator[Removal]:
    """Every layer, every step of layers with more than one, and every head of every step, from the first layer on."""
    found = list(places(compilation, network))
    for name, layer in layers(network):
        yield Removal(name, None, None, partial(without, [layer]))
        steps = [place for place in found if place.name.rpartition(".")[0] == name]
        for place in steps:
            label = place.derived.step.label
            if len(steps) > 1:
                yield Removal(name, label, None, partial(without, [place.module]))
            yield from (Removal(name, label, head, partial(silenced, place, head)) for head in range(heads(place)))


def exits(network: nn.Module) -> Iterator[tuple[str, str | None, Change]]:
    """The head reading the tokens after each layer: its name, the layer that is then left out first, and the change.

    "tokens" is what enters the first layer. The norms that the network has outside of its layers stay in place.
    """
    own = list(layers(network))
    for place, name in enumerate(["tokens", *(name for name, _ in own)]):
        later = own[place:]
        yield name, later[0][0] if later else None, partial(without, [layer for _, layer in later])
