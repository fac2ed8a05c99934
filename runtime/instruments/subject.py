"""What a report looks at: a network as trained and as it began, and the inputs that are put through both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from crate_dsl import Compilation
from runtime.data.source import Batch, Images, Masked, Splits
from runtime.errors import UserError
from runtime.network import Compiled, built
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import held_out_draw, pick_device
from runtime.storage.trained import Trained
from runtime.transfer import initialisation


@dataclass(frozen=True)
class Shown:
    """A picture that the user named, as the network reads it (channels, height, width), with the mask of its object.

    `mask` (height, width) is true where the object is; None where none was given.
    """

    name: str
    image: Tensor
    mask: Tensor | None = None


@dataclass(frozen=True)
class Subject:
    """A network in evaluation mode with what it is shown.

    `initial` is the network as its training began, None where it is `network` itself or is not known; beside a bare
    file, which does not say how its training began, one initialised from the recipe's seed. `train` and
    `held_out` are batches spread over the splits; nothing in them is augmented. `numbers` are those of the held-out
    inputs in their split, from 0, and what they are called in all parts of a report. `masks` (held-out images, height,
    width) are true where the object is, None where the data have none.
    """

    label: str
    compilation: Compilation
    network: nn.Module
    initial: nn.Module | None
    recipe: Recipe
    splits: Splits
    train: Batch
    held_out: Batch
    numbers: Sequence[int]
    masks: Tensor | None = None
    shown: tuple[Shown, ...] = ()
    trained: Trained | None = None
    unscored: str = ""  # why the task has no scores on these data; then their labels are not those of the network

    def arguments(self, batch: Batch) -> tuple[Tensor, ...]:
        """What `features` and `energies` are called with: the inputs, with the held-out mask or noise."""
        draw = held_out_draw(self.recipe.task, self.network, 0, len(batch))
        return tuple(value for value in self.recipe.task.inputs(batch.inputs, draw) if value is not None)

    def fewer(self, count: int) -> Subject:
        """The same with the first `count` inputs of each split."""
        train, held_out = (
            Batch(batch.inputs[:count], None if batch.labels is None else batch.labels[:count])
            for batch in (self.train, self.held_out)
        )
        masks = None if self.masks is None else self.masks[:count]
        return replace(self, train=train, held_out=held_out, numbers=self.numbers[:count], masks=masks)

    @property
    def origin(self) -> nn.Module | None:
        """The network that this one came from by training; None where that is not known."""
        return self.initial if self.trained and self.trained.folder else None

    @property
    def states(self) -> dict[str, nn.Module]:
        """The networks to be laid beside each other: `trained` and, where it is known, `initial`."""
        if self.trained is None:
            return {"initial": self.network}
        return {"trained": self.network} | ({"initial": self.initial} if self.initial else {})


def subject_of(trained: Trained, label: str, recipe: Recipe, count: int, shown: Sequence[Shown]) -> Subject:
    """What a run or a weights file holds, beside the network as its training began.

    Raises UserError where network and data do not belong together.
    """
    initial = began(trained, recipe)
    return assembled(label, trained.compiled, initial, recipe, count, shown, trained)


def began(trained: Trained, recipe: Recipe) -> nn.Module | None:
    """The network before its first step: from the recipe's seed, or with the weights that the recipe starts from."""
    fresh = built(trained.compilation, recipe.seed)
    try:
        initialisation.begin(recipe, fresh)
    except UserError:  # those weights are gone, or others by now
        return None
    return fresh.module


def assembled(
    label: str,
    compiled: Compiled,
    initial: nn.Module | None,
    recipe: Recipe,
    count: int,
    shown: Sequence[Shown] = (),
    trained: Trained | None = None,
) -> Subject:
    """A subject on `count` inputs of each split; raises UserError where network and data do not belong together."""
    splits = recipe.splits(compiled.shape)
    device = pick_device(recipe.device)
    network, initial = (
        None if module is None else module.to(device).eval().requires_grad_(False)
        for module in (compiled.module, initial)
    )
    numbers = spread(splits.held_out, count)
    train = splits.train.take(spread(splits.train, count), None).to(device)
    held_out = splits.held_out.take(numbers, None).to(device)
    masked = isinstance(splits.held_out, Masked)
    masks = splits.held_out.masks(numbers).to(device) if masked else None
    return Subject(
        label, compiled.compilation, network, initial, recipe, splits, train, held_out, numbers, masks, tuple(shown),
        trained, unscored(recipe, network, splits),
    )  # fmt: skip


def unscored(recipe: Recipe, network: nn.Module, splits: Splits) -> str:
    """Why the task cannot score the network on these data, "" where it can: they may have no classes, or others."""
    try:
        recipe.task.check(network, splits.classes)
    except UserError as error:
        if network.task not in recipe.task.networks:
            raise
        return str(error)
    return ""


def spread(images: Images, count: int) -> list[int]:
    """`count` places at equal distances over a split."""
    count = min(count, len(images))
    return [number * len(images) // count for number in range(count)]
