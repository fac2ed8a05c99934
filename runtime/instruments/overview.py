"""Which network a report is about: what each step optimises and computes, sizes, weights, figures."""

from __future__ import annotations

from runtime.instruments.section import Formula, Section, Sheet
from runtime.instruments.subject import Subject
from runtime.network import parameter_count
from runtime.scoring.measure import measure, reference_of
from runtime.scoring.report import EXPLANATIONS

NAME, TITLE = "overview", "The network"
FIGURES = "figures"  # the sheet of the task's figures, those of the network itself first


def measured(subject: Subject) -> Section:
    """Facts, steps and figures on the whole held-out split."""
    sheets = (facts(subject),) if subject.unscored else (facts(subject), figures(subject))
    return Section(NAME, TITLE, text(subject), sheets=sheets, formulas=formulas(subject))


def text(subject: Subject) -> tuple[str, ...]:
    description = subject.compilation.model.description
    unscored = f"No figures of the task: {subject.unscored}." if subject.unscored else ""
    return tuple(filter(None, (description, unscored)))


def facts(subject: Subject) -> Sheet:
    model, trained = subject.compilation.model, subject.trained
    fresh = f"as initialised, seed {subject.recipe.seed}"
    unknown = trained and subject.initial and not subject.origin
    rows = [
        ("network", model.name),
        ("weights", f"{trained.file} ({trained.kind})" if trained else fresh),
        *[("initial network", f"{fresh}; the file does not say what its training began with")] * bool(unknown),
        ("parameters", parameter_count(subject.network)),
        ("sizes", ", ".join(f"{name} = {value}" for name, value in model.sizes.items())),
        ("data", f"{subject.recipe.data.name}, {len(subject.held_out)} held-out and {len(subject.train)} training "
                 f"{subject.recipe.data.unit} are put through it"),
    ]  # fmt: skip
    return Sheet("facts", "", ("what", "value"), rows)


def formulas(subject: Subject) -> list[Formula]:
    """Stated energy and derived operator of every step of a layer."""
    return [Formula(f"{step.title} ({step.block})", step.formula) for step in subject.compilation.formulas]


def figures(subject: Subject) -> Sheet:
    """The task's own figures over the whole held-out split, for every state that is known."""
    recipe, splits = subject.recipe, subject.splits
    found = {}
    for state, network in subject.states.items():
        reference = reference_of(recipe.task, network, splits.train, recipe.evaluate_batch)
        found[state] = measure(
            recipe.task, network, splits.held_out, recipe.evaluate_batch, recipe.precision, reference
        )
    names = list(next(iter(found.values())))
    rows = [(name, *(values[name] for values in found.values()), EXPLANATIONS.get(name, "")) for name in names]
    caption = f"Figures on all {len(splits.held_out):,} held-out {recipe.data.unit}."
    return Sheet(FIGURES, caption, ("figure", *found, "what it is"), rows)
