"""Data that can only be read from their start on: position i of an epoch is reached by passing over those before it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from runtime.data.source import Batch
from runtime.errors import UserError

Draw = tuple[int, int] | None  # (seed, epoch), or None where nothing is varied


class Reader(Protocol):
    """What opens a stream and makes an example of a row of it."""

    def open(self, draw: Draw) -> Iterator[Any]:
        """The rows of the epoch that `draw` names in its own order; in the order of the data where it is None."""
        ...

    def example(self, row: Callable[[int], Any], index: int, draw: Draw) -> tuple[Tensor, Any]:
        """Input and label (or None) at position `index`; `row` gives the rows from there on."""
        ...


@dataclass
class Streamed:
    """`count` rows per epoch of a stream, as a split of a data set.

    The stream comes in an order of its own, f(seed, epoch), so that the sampler takes positions in turn. Every process
    that reads passes over the rows of the others without decoding them: batches do not depend on the number of
    processes, at the cost of reading (not decoding) everything in each. Likewise a resumed run reads from the start
    of its epoch up to its step.
    """

    reader: Reader
    count: int
    _cursors: dict[tuple[int, bool], Cursor] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cursors": {}}  # an open stream belongs to its process

    def take(self, indices: Sequence[int], draw: Draw) -> Batch:
        """The examples at `indices`, ascending ones at the least cost."""
        examples = [self.reader.example(self.cursor(index, draw).row, index, draw) for index in indices]
        inputs, labels = zip(*examples, strict=True)
        known = labels[0] is not None
        return Batch(torch.stack(inputs), torch.stack([torch.as_tensor(each) for each in labels]) if known else None)

    def cursor(self, index: int, draw: Draw) -> Cursor:
        """Where this process reads, moved to `index`. Training and evaluation read at places of their own.

        What another process had open before it forked this one stays as it is: it belongs to threads that are not here.
        """
        place = (os.getpid(), draw is None)
        cursor = self._cursors.get(place)
        if cursor is None or cursor.draw != draw or cursor.first > index:
            cursor = self._cursors[place] = Cursor(self.reader.open(draw), draw)
        cursor.move(index)
        return cursor


class Cursor:
    """A place in an open stream, with the rows that were read beyond it."""

    def __init__(self, rows: Iterator[Any], draw: Draw) -> None:
        self.rows, self.draw = rows, draw
        self.first, self.kept = 0, deque()

    def move(self, position: int) -> None:
        while self.first < position:
            self.row(self.first)
            self.kept.popleft()
            self.first += 1

    def row(self, position: int) -> Any:
        while position >= self.first + len(self.kept):
            try:
                self.kept.append(next(self.rows))
            except StopIteration:
                held = self.first + len(self.kept)
                raise UserError(
                    f"the stream ends after {held} examples; make data.samples or data.held_out_samples smaller"
                ) from None
        return self.kept[position - self.first]
