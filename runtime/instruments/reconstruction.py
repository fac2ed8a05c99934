"""What a network gives back of images at several mask ratios or noise levels, and how its layers pair off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime.data.source import Batch
from runtime.errors import Inapplicable
from runtime.inspection.levels import Level, figures, levels, pictures
from runtime.inspection.workload import affordable
from runtime.instruments import layer_pairs
from runtime.instruments.drawing import reconstruction as drawing
from runtime.instruments.section import Panel, Section, Sheet
from runtime.instruments.subject import Subject
from runtime.scoring.measure import reference_of

NAME, TITLE = "reconstruction", "Reconstruction and layer pairs"

DRAWN = 4  # held-out images in the picture
NAMED = 12  # and pictures of the user
COMPARED = {  # figures that are drawn beside the network's own error, with their names
    "mean_fill_error": "mean of the training images",
    "visible_fill_error": "mean of the visible patches",
    "noisy_error": "noisy image itself",
}


@dataclass(frozen=True)
class Kind:
    """What a task hides: its name as an axis, how a level is written, and which of the task's columns are shown."""

    axis: str
    written: str
    columns: tuple[int, ...]
    titles: tuple[str, ...]
    error: str


KINDS = {
    "mae": Kind("mask ratio", "{:.0%} hidden", (1, 3), ("visible", "completed"), "masked_error"),
    "denoise": Kind("noise (standard deviation)", "noise {:g}", (1, 2), ("noisy", "denoised"), "error"),
    "reconstruct": Kind("", "", (1,), ("reconstruction",), "error"),
}


def measured(subject: Subject) -> Section:
    """Raises Inapplicable for a network that does not give images."""
    if subject.network.task not in ("mae", "reconstruct"):
        raise Inapplicable("this network gives no images")
    kind = KINDS[subject.recipe.task.name]
    held_out = measured_on(subject)
    found = errors(subject, held_out)
    pairs = layer_pairs.found(subject)
    return Section(
        NAME,
        TITLE,
        (*text(subject, kind, len(held_out)), *pairs.text),
        [*panels(subject, kind, found), *pairs.panels],
        [error_sheet(kind, found, len(held_out)), *pairs.sheets],
        pairs.curves,
    )


def measured_on(subject: Subject) -> Batch:
    passes = len(subject.states) * len(levels(subject.network, subject.recipe.task))
    count = affordable(subject.compilation, passes, len(subject.held_out), min(8, len(subject.held_out)))
    return Batch(subject.held_out.inputs[:count])


Errors = Mapping[str, Sequence[tuple[float | None, Mapping[str, float]]]]  # by state, the figures at every level


def errors(subject: Subject, batch: Batch) -> Errors:
    recipe = subject.recipe
    reference = reference_of(recipe.task, subject.network, subject.splits.train, recipe.evaluate_batch)
    return {
        state: [(each.value, figures(each, recipe, batch, reference)) for each in levels(network, recipe.task)]
        for state, network in subject.states.items()
    }


def text(subject: Subject, kind: Kind, count: int) -> tuple[str, ...]:
    unit = subject.recipe.data.unit
    on = f"Errors are means over {count:,} held-out {unit}, in the units of the network's input (mostly [-1, 1])."
    if subject.network.mask_ratio:
        own = (
            f"The network was trained with {subject.network.mask_ratio:.0%} of the patches hidden; other ratios ask it"
            " for what it has not seen. One draw serves all: what is hidden at one ratio is hidden at every larger one."
        )
        scale = " Predictions are normalised patches, shown with the mean and scale of the visible ones."
        return (own + scale * bool(getattr(subject.recipe.task, "normalise", False)), on)
    if kind.axis:
        noise = f"{subject.recipe.task.noise:g}"
        return (f"The network was trained with noise of standard deviation {noise}; one draw is scaled.", on)
    return (on,)


# ---- figures and numbers -----------------------------------------------------------------------------------------


def panels(subject: Subject, kind: Kind, found: Errors) -> list[Panel]:
    state, network = next(iter(subject.states.items()))
    at = levels(network, subject.recipe.task)
    seen = "hidden patches grey" if subject.network.mask_ratio else "each beside what the network makes of it"
    caption = f"Held-out images{' and those named' * bool(subject.shown)}, {seen} ({state} network)."
    made = [Panel("images", caption, drawing.grid(columns(subject, kind, at)))]
    if kind.axis:
        lines = {name: [values[kind.error] for _, values in rows] for name, rows in found.items()}
        first = next(iter(found.values()))
        lines |= {name: [row[key] for _, row in first] for key, name in COMPARED.items() if key in error_names(first)}
        figure = drawing.errors([level for level, _ in first], lines, kind.axis, kind.error.replace("_", " "))
        made.append(Panel("errors", f"Held-out {kind.error.replace('_', ' ')} against the {kind.axis}.", figure))
    return made


def columns(subject: Subject, kind: Kind, at: Sequence[Level]) -> dict[str, Tensor]:
    """The originals, then of every level the columns of its kind."""
    own = [each.image for each in subject.shown[:NAMED]]
    images = torch.stack([*subject.held_out.images[:DRAWN], *(image.to(subject.held_out.images) for image in own)])
    shown = {"original": images}
    for level in at:
        task_columns = list(pictures(level, images).values())
        written = kind.written.format(level.value) + "\n" if kind.written else ""
        shown |= {written + title: task_columns[c] for title, c in zip(kind.titles, kind.columns, strict=True)}
    return {title: subject.recipe.data.displayed(values.float()).cpu() for title, values in shown.items()}


def error_names(rows: Sequence[tuple[float | None, Mapping[str, float]]]) -> list[str]:
    return list(rows[0][1])


def error_sheet(kind: Kind, found: Errors, count: int) -> Sheet:
    """A row for each network and level."""
    names = error_names(next(iter(found.values())))
    rows = [(state, level, *(values[name] for name in names)) for state, own in found.items() for level, values in own]
    caption = f"Held-out errors{f' against the {kind.axis}' if kind.axis else ''}, {count:,} inputs."
    return Sheet("errors", caption, ("network", kind.axis or "level", *names), rows)
