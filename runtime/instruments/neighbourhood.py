"""The part of `prediction` that looks at neighbours: which training images a network takes for alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.data.source import Images
from runtime.inspection.nearest import Nearest, Pool, nearest
from runtime.inspection.workload import affordable
from runtime.instruments.drawing.neighbours import Tile, neighbours
from runtime.instruments.section import Cell, Panel, Sheet
from runtime.instruments.subject import Subject, spread

COUNT = 5  # neighbours of each query
DRAWN = 5  # held-out queries in the picture
NAMED = 12  # and pictures of the user
POOL = 2000  # training images
TOKENS = 4096  # computed at once: the tokens after every step are kept meanwhile


@dataclass(frozen=True)
class Part:
    """What goes into the section; empty where a network does not read images."""

    text: tuple[str, ...] = ()
    panels: Sequence[Panel] = ()
    sheets: Sequence[Sheet] = ()


@dataclass(frozen=True)
class Query:
    """One image whose neighbours are sought; `label` is its class where the data have classes."""

    name: str
    image: Tensor
    label: int | None = None


def found(subject: Subject) -> Part:
    if subject.network.input != "image":
        return Part()
    images = subject.splits.train
    count = affordable(subject.compilation, 2 * len(subject.states), POOL, least=64)
    batch = min(subject.recipe.evaluate_batch, max(1, TOKENS // subject.network.token_count))
    pool = Pool(images, spread(images, count), batch)
    asked = queries(subject)
    stack, labels = torch.stack([query.image for query in asked]), subject.held_out.labels
    near = {
        state: nearest(network, pool, stack, labels, COUNT, subject.recipe.precision)
        for state, network in subject.states.items()
    }
    state, first = next(iter(near.items()))
    sheets = [long_sheet(subject, asked, state, first), *summary(asked, near)]
    caption = (
        f"Held-out images (left) and the {first.numbers.shape[1]} training images nearest to each, with cosine"
        f" distances ({state} network)."
    )
    if first.classes is not None:
        caption += " ✓ and a solid frame: of the query's class; ✗ and a dashed frame: of another."
    figure = neighbours([tiles(subject, asked, first, row) for row in drawn(subject)])
    return Part(
        (text(first, len(pool.numbers), len(subject.held_out)),), [Panel("neighbours", caption, figure)], sheets
    )


def queries(subject: Subject) -> list[Query]:
    """The held-out batch, then the pictures that the user named."""
    labels = subject.held_out.labels
    own = [
        Query(f"held out {number}", image, None if labels is None else int(labels[place]))
        for place, (number, image) in enumerate(zip(subject.numbers, subject.held_out.images, strict=True))
    ]
    return own + [Query(each.name, each.image.to(subject.held_out.images)) for each in subject.shown]


def drawn(subject: Subject) -> list[int]:
    """Which queries are in the picture: those that the user named, and some of the batch."""
    count = len(subject.held_out)
    return [*range(count, count + len(subject.shown))][:NAMED] + spread(range(count), DRAWN)


def text(found: Nearest, pool: int, queries: int) -> str:
    return (
        f"Neighbours: {found.reading} is compared by cosine, nothing is masked and nothing was trained for it. The"
        f" {queries:,} inputs of the held-out batch are sought among {pool:,} training images spread over their split."
    )


def tiles(subject: Subject, asked: Sequence[Query], near: Nearest, row: int) -> list[Tile]:
    query, display, names = asked[row], subject.recipe.data.displayed, subject.recipe.data.class_names()
    images: Images = subject.splits.train
    found = images.take(near.numbers[row].tolist(), None)
    shown = display(found.inputs.float().cpu()).cpu()
    own = named(query.label, names)
    result = [Tile(display(query.image.float().cpu()).cpu(), f"{query.name}: {own}" if own else query.name)]
    for place, image in enumerate(shown):
        label = None if near.classes is None else int(near.classes[row, place])
        same = None if label is None or query.label is None else label == query.label
        title = f"{near.distances[row, place]:.2g}"
        result.append(Tile(image, title if label is None else f"{named(label, names)}, {title}", same))
    return result


def named(label: int | None, names: Sequence[str] | None) -> str:
    """A class in at most 16 letters."""
    if label is None:
        return ""
    word = names[label] if names else str(label)
    return word if len(word) <= 16 else word[:15] + "…"


# ---- numbers -----------------------------------------------------------------------------------------------------


def long_sheet(subject: Subject, asked: Sequence[Query], state: str, near: Nearest) -> Sheet:
    rows: list[tuple[Cell, ...]] = []
    for row, query in enumerate(asked):
        for place, number in enumerate(near.numbers[row].tolist()):
            label = None if near.classes is None else int(near.classes[row, place])
            same = None if label is None or query.label is None else label == query.label
            distance = float(near.distances[row, place])
            rows.append((query.name, query.label, place + 1, number, label, same, distance))
    columns = ("query", "class", "rank", "training image", "its class", "same class", "cosine distance")
    return Sheet("neighbours", f"The nearest training images of every query ({state} network).", columns, rows)


def summary(asked: Sequence[Query], near: Mapping[str, Nearest]) -> list[Sheet]:
    """How often neighbours are of the query's class, where the data have classes."""
    labels = [query.label for query in asked if query.label is not None]
    rows = [
        (
            state,
            float((each.classes[: len(labels)] == torch.tensor(labels).numpy()[:, None]).mean()),
            float(each.right.mean()),
        )
        for state, each in near.items()
        if each.classes is not None and each.right is not None
    ]
    caption = (
        f"Of the {COUNT} nearest training images, the share of the query's class; and the share of queries that the"
        " weighted vote of their 20 nearest classifies rightly."
    )
    return [Sheet("neighbour-classes", caption, ("network", "same class", "vote right"), rows)] if rows else []
