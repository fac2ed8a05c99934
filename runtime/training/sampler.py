"""Training batches as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import DataLoader, Dataset

from runtime import seeds
from runtime.data.source import Batch, Images
from runtime.errors import UserError


@dataclass
class Batches(Dataset):
    """Batch number m of a run: its `part`-th share of the global batch of step m // parts.

    An epoch holds len(images) // batch steps; what is left over comes up in other epochs, since each has its own order.
    """

    images: Images
    batch: int
    parts: int
    seed: int
    _order: tuple[int, np.ndarray] | None = field(default=None, repr=False)  # of the latest epoch

    def __post_init__(self) -> None:
        if self.batch > len(self.images):
            raise UserError(f"batch {self.batch} is larger than the training data, {len(self.images)} in all")

    @property
    def steps_per_epoch(self) -> int:
        return len(self.images) // self.batch

    def order(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, seeds.order(self.seed, epoch, len(self.images))
        return self._order[1]

    def __getitem__(self, number: int) -> Batch | UserError:
        """The batch; a mistake of the user is returned, since raised in a worker it would arrive as a traceback."""
        try:
            return self.share(number)
        except UserError as error:
            return error

    def share(self, number: int) -> Batch:
        step, part = divmod(number, self.parts)
        epoch, position = divmod(step, self.steps_per_epoch)
        share = self.batch // self.parts
        start = position * self.batch + part * share
        return self.images.take(self.order(epoch)[start : start + share].tolist(), (self.seed, epoch))


def stream(
    batches: Batches, first_step: int, last_step: int, own: Sequence[int], workers: int, pin: bool
) -> Iterator[Batch]:
    """The shares `own` of every batch from `first_step` up to but not including `last_step`, by `workers` processes."""
    numbers = [step * batches.parts + part for step in range(first_step, last_step) for part in own]
    for batch in DataLoader(batches, sampler=numbers, batch_size=None, num_workers=workers, pin_memory=pin):
        if isinstance(batch, UserError):
            raise batch
        yield batch


def in_order(images: Images, batch: int, limit: int | None = None) -> Iterator[Batch]:
    """All images once, unaugmented, in their own order."""
    count = min(len(images), limit or len(images))
    for start in range(0, count, batch):
        yield images.take(range(start, min(start + batch, count)), None)
