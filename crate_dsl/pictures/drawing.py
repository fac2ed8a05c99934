"""The drawing of a network before any format is chosen: boxes, frames around them, arrows between them, and texts.

A drawing knows what stands where in the flow and what it says; places and sizes on a page are up to who writes it.
Formulas are pieces of LaTeX as `mathematics/latex.py` prints them, which a writer sets in its own way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """One line of a box: words, or a formula of several summands, or words with a formula behind them.

    `role` is "title", "objective", "operator", "where", "fact" or "cost".
    """

    role: str
    words: str = ""
    formula: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tag:
    """What is exact, approximated or chosen (`kind`) in few words, with the reason."""

    kind: str
    words: str
    why: str


@dataclass(frozen=True)
class Node:
    """What the tokens pass inside a box; `kind` is "word", "norm", "operator" or "sum" (where a skip comes back)."""

    name: str
    label: str
    kind: str


@dataclass(frozen=True)
class Box:
    """One stage of the flow or one step of a layer.

    `kind` is "input", "tokens", "step", "norm", "head", "output" or "loss"; `accent` is the verb of a step.
    """

    kind: str
    nodes: tuple[Node, ...]
    texts: tuple[Text, ...] = ()
    tags: tuple[Tag, ...] = ()
    accent: str = ""


@dataclass(frozen=True)
class Frame:
    """A block: the steps of one layer, of which there are `repeat`."""

    name: str
    title: str
    repeat: int
    notes: tuple[str, ...]
    tags: tuple[Tag, ...]
    boxes: tuple[Box, ...]


def boxes_of(items: Iterable[Box | Frame]) -> Iterator[Box]:
    """All boxes, those inside frames included."""
    for item in items:
        yield from item.boxes if isinstance(item, Frame) else (item,)


@dataclass(frozen=True)
class Arrow:
    """From node to node; `kind` is "flow", "skip" (around an operator) or "training" (what only training computes)."""

    source: str
    target: str
    label: str = ""
    kind: str = "flow"


@dataclass(frozen=True)
class Drawing:
    """The whole network from top to bottom."""

    title: str
    description: str
    notes: tuple[str, ...]
    items: tuple[Box | Frame, ...]
    arrows: tuple[Arrow, ...]
    legend: tuple[Tag, ...]  # one of each kind that occurs
    footnotes: tuple[str, ...]

    @property
    def boxes(self) -> Iterator[Box]:
        return boxes_of(self.items)

    @property
    def nodes(self) -> Iterator[Node]:
        for box in self.boxes:
            yield from box.nodes
