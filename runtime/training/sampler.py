"""Training batches as a function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from torch.utils.data import DataLoader, Dataset

from runtime import seeds
from runtime.data.source import Batch, Images
from runtime.errors import UserError
from runtime.reading.stream import Streamed


@dataclass
class Batches(Dataset):
    """Share number m of a run: rows p * share .. (p + 1) * share of the global batch of a step, m = step * parts + p.

    An epoch holds len(images) // batch steps; what is left over comes up in other epochs, since each has its own order.
    A share is the same whoever asks for it: neither the process nor how many there are plays a part.
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
        """The indices of an epoch in its order; a stream brings its own."""
        if isinstance(self.images, Streamed):
            return np.arange(len(self.images))
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
    batches: Batches,
    first_step: int,
    last_step: int,
    workers: int,
    pin: bool,
    own: Sequence[int] | None = None,
    prefetch: int = 2,
) -> Iterator[Batch]:
    """The batches from `first_step` up to but not including `last_step`, in order.

    Args:
        workers: processes that load them; 0 loads in this one.
        pin: put them into pinned memory, from which copies to a GPU do not block.
        own: the shares of every batch that are wanted; all of them by default.
        prefetch: batches that each worker loads ahead.

    The processes live as long as the run does: all its epochs are one pass of the loader. Raises UserError for what a
    worker reports, and where one dies (see `explained`, also for where else that shows).
    """
    shares = range(batches.parts) if own is None else own
    numbers = (step * batches.parts + part for step in range(first_step, last_step) for part in shares)
    ahead = {"prefetch_factor": prefetch, "worker_init_fn": leave_stopping} if workers else {}
    if workers:  # the library `tokenizers` would warn of every fork
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    loader = DataLoader(batches, sampler=numbers, batch_size=None, num_workers=workers, pin_memory=pin, **ahead)
    with explained():
        for batch in loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


def leave_stopping(_: int) -> None:
    """A signal to the whole group of processes is for the main one, which still needs the batches of this step."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@contextmanager
def explained() -> Iterator[None]:
    """Turns the death of a process that loads data into a UserError.

    torch reports it from a signal handler, so that it may surface anywhere in the main thread: in the wait for a batch,
    in the middle of a training step, or while a file is written, whose own error it then causes.
    """
    try:
        yield
    except (RuntimeError, UserError) as error:
        cause = str(error.__cause__ if isinstance(error, UserError) else error)
        if "DataLoader worker" not in cause:
            raise
        reason = cause.splitlines()[0].rstrip(". ")
        raise UserError(
            f"a process that loads data died: {reason}. If it was killed, memory ran out: take fewer workers, a smaller"
            " batch or smaller pictures (and in a container more shared memory); workers=0 loads without other"
            " processes and shows errors of its own. --resume goes on from the last checkpoint, if one was due."
        ) from error


def in_order(images: Images, batch: int, limit: int | None = None) -> Iterator[Batch]:
    """All images once, unaugmented, in their own order.

    With a limit, so many of them at even distances, since a folder begins with all images of its first class; of a
    stream the first ones, since reading on costs as much as reading all.
    """
    count = min(len(images), limit or len(images))
    whole = count if isinstance(images, Streamed) else len(images)
    for start in range(0, count, batch):
        yield images.take([n * whole // count for n in range(start, min(start + batch, count))], None)
