"""Where the prediction comes from: after which layer it is there, what it loses without each part, and its neighbours.

The head that reads the tokens between layers is the logit lens (nostalgebraist 2020); a part that is left out is an
ablation as in Michel et al. 2019 (arXiv 1905.10650, heads) and Veit et al. 2016 (arXiv 1605.06431, layers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runtime.data.source import Batch
from runtime.errors import Inapplicable
from runtime.inspection.effects import Examination, Removal, Score, exits, removals
from runtime.inspection.layers import layers
from runtime.inspection.workload import affordable
from runtime.instruments import neighbourhood
from runtime.instruments.drawing import effects as drawing
from runtime.instruments.drawing.charts import Line
from runtime.instruments.section import Curve, Panel, Section, Sheet
from runtime.instruments.subject import Subject, spread

NAME, TITLE = "prediction", "Where the prediction comes from"

MOST = 512  # held-out inputs
KNOWN = 4  # training images for each of them, where features are judged by neighbours

Exits = Mapping[str, Mapping[str, Score]]  # by state, then by layer


@dataclass(frozen=True)
class Effects:
    """The network without each part; `skipped` are steps whose heads could not be left out, with the reason."""

    found: Sequence[tuple[Removal, Score]]
    skipped: Sequence[str]


def measured(subject: Subject) -> Section:
    if not list(layers(subject.network)):
        raise Inapplicable("this network has no layers to leave out")
    near = neighbourhood.found(subject)
    if subject.unscored:
        return Section(NAME, TITLE, (f"No loss: {subject.unscored}.", *near.text), near.panels, near.sheets)
    inputs, known = examined(subject)
    looks = {state: Examination(network, subject.recipe, inputs, known) for state, network in subject.states.items()}
    lens = {state: {name: look.score(change, start) for name, start, change in exits(look.network)}
            for state, look in looks.items()}  # fmt: skip
    main = next(iter(looks.values()))
    effects = without_parts(subject, main)
    return Section(
        NAME,
        TITLE,
        (*text(subject, main, effects), *near.text),
        [*panels(main, lens, effects), *near.panels],
        [lens_sheet(lens, main), removal_sheet(effects, main), *near.sheets],
        [*lens_curves(subject, lens, main), removal_curve(effects, main)],
    )


def examined(subject: Subject) -> tuple[Batch, Batch | None]:
    """The held-out inputs, spread over the split, and for networks that give features the training images they ask."""
    parts = list(removals(subject.compilation, subject.network))
    features = subject.network.task == "features"
    passes = (2 + len(parts) / 2) * (1 + KNOWN * features)  # what stands before a part is not computed again
    count = affordable(subject.compilation, passes, MOST)
    splits = subject.splits
    inputs = splits.held_out.take(spread(splits.held_out, count), None)
    return inputs, splits.train.take(spread(splits.train, KNOWN * count), None) if features else None


def without_parts(subject: Subject, look: Examination) -> Effects:
    found, skipped = [], {}
    for part in removals(subject.compilation, look.network):
        try:
            found.append((part, look.score(part.change, part.layer)))
        except Inapplicable as reason:
            skipped[str(reason)] = None
    return Effects(found, list(skipped))


# ---- words -------------------------------------------------------------------------------------------------------


def text(subject: Subject, look: Examination, effects: Effects) -> tuple[str, ...]:
    inputs = f"{len(look.whole.loss):,} held-out {subject.recipe.data.unit} spread over the split"
    known = sum(len(part.batch) for part in look.known)
    against = f", their neighbours sought among {known:,} training images" if known else ""
    later = (
        "After each layer the head reads the tokens directly (the logit lens): all later layers are left out, those of"
        " a decoder too, while the norms before the head stay. Nothing was trained to be read there, so a poor figure"
        " means that the head does not understand these tokens, not that they know nothing."
    )
    parts = (
        "Each part is left out by itself, without training again, and the loss measured on the same inputs. Without a"
        " layer or a step tokens pass on unchanged; a step without a residual replaces its tokens, so leaving it out"
        " hands on tokens of another kind than the next step was trained on. Without a head, its term in the sum over"
        " heads is zero, as if its block of the outer matrix were; the bias, which belongs to no head, stays, and so"
        " does the inner matrix where both are tied. Parts can stand in for each other: small changes do not add up."
    )
    masks = " Masks and noise are the same throughout." if any(p.draw is not None for p in look.inputs) else ""
    return (
        f"All on {inputs}{against}. The loss is the task's own: {look.unit}.{masks}",
        later,
        parts,
        *(f"Heads left aside: {reason}." for reason in effects.skipped),
    )


# ---- figures -----------------------------------------------------------------------------------------------------


def panels(look: Examination, lens: Exits, effects: Effects) -> list[Panel]:
    """The lens, layers and steps, and heads where there are any."""
    labels = list(next(iter(lens.values())))
    losses = [Line(state, [score.mean for score in scores.values()]) for state, scores in lens.items()]
    shares = [Line(state, [score.accuracy for score in scores.values()]) for state, scores in lens.items()]
    shares = [line for line in shares if line.values[0] is not None]
    made = [
        Panel("lens", "The head reading the tokens after each layer, held out; the last is the network itself.",
              drawing.early_exits(labels, losses, shares, look.unit)),
        Panel("removed", "The loss when a layer, or one step of it, is left out; bars are standard errors of the change"
              " from the whole network.", drawing.removed(*removed_lines(effects, look), look.whole.mean, look.unit)),
    ]  # fmt: skip
    rows: dict[str, list[float]] = {}
    for part, score in effects.found:
        if part.kind == "head":
            rows.setdefault(f"{part.layer}.{part.step}", []).append(score.rise(look.whole)[0])
    if rows:
        caption = "The change of the loss when one head is left out; above zero the head was of use."
        made.append(Panel("heads", caption, drawing.heads(rows, look.unit)))
    return made


def removed_lines(effects: Effects, look: Examination) -> tuple[list[str], list[Line]]:
    """The layers, and the loss without each of them and without each kind of step, at the places of the layers."""
    names = list(dict.fromkeys(part.layer for part, _ in effects.found))
    kinds: dict[str, dict[str, Score]] = {}
    for part, score in effects.found:
        if part.kind != "head":
            kinds.setdefault(part.step or "the whole layer", {})[part.layer] = score
    lines = []
    for kind, scores in kinds.items():
        values = [scores[name].mean if name in scores else None for name in names]
        errors = [scores[name].rise(look.whole)[1] if name in scores else None for name in names]
        lines.append(Line(kind, values, bars=errors, joined=False))
    return names, lines


# ---- numbers -----------------------------------------------------------------------------------------------------


def lens_sheet(lens: Exits, look: Examination) -> Sheet:
    rows = [
        (state, name, score.mean, score.accuracy) for state, scores in lens.items() for name, score in scores.items()
    ]
    caption = f"The head reading the tokens after each layer, held out. loss: {look.unit}."
    return Sheet("lens", caption, ("network", "after", "loss", "accuracy"), rows)


def removal_sheet(effects: Effects, look: Examination) -> Sheet:
    whole = look.whole
    rows = [("nothing", None, None, None, whole.mean, 0.0, None, whole.accuracy)]
    for part, score in effects.found:
        own = (part.kind, part.layer, part.step, part.head)
        rows.append((*own, score.mean, *score.rise(whole), score.accuracy))
    caption = f"The network without each of its parts, held out. loss: {look.unit}; its change with standard error."
    columns = ("left out", "layer", "step", "head", "loss", "change", "standard error", "accuracy")
    return Sheet("removed", caption, columns, rows)


def lens_curves(subject: Subject, lens: Exits, look: Examination) -> list[Curve]:
    scores = next(iter(lens.values()))
    values = list(scores.values())
    curves = [
        Curve(
            f"loss of the head after each layer, held out ({look.unit})",
            tuple(scores),
            tuple(score.mean for score in values),
            spreads(values),
        )
    ]
    if values[0].accuracy is not None:
        of = "" if subject.network.task == "classify" else f" ({subject.network.task.replace('_', ' ')})"
        quantity = f"accuracy of the head after each layer, held out{of}"
        curves.append(Curve(quantity, tuple(scores), tuple(score.accuracy for score in values)))
    return curves


def removal_curve(effects: Effects, look: Examination) -> Curve:
    scores = {part.layer: score for part, score in effects.found if part.kind == "layer"}
    values = tuple(score.mean for score in scores.values())
    quantity = f"loss when this layer is removed, held out ({look.unit})"
    return Curve(quantity, tuple(scores), values, spreads(list(scores.values())))


def spreads(scores: Sequence[Score]) -> tuple[float, ...]:
    """Standard deviations over the inputs."""
    return tuple(float(score.loss.std(correction=0)) for score in scores)
