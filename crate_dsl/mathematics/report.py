"""A derivation arranged for reading: what a page about it holds, in which order, before any notation is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from crate_dsl.errors import Span
from crate_dsl.language.model import Block, ClassAttention, LearnedScalar, Model, NormStage, Parameter, Word, axis_size
from crate_dsl.library.scalars import base_name
from crate_dsl.mathematics.derivation import (
    APPROXIMATION,
    CHOICE,
    EXACT,
    Derivation,
    DerivationStep,
    DerivedBlock,
    DerivedStep,
)
from crate_dsl.mathematics.equations import NOTHING, Equation
from crate_dsl.mathematics.glossary import Entry, glossary, scalars_of
from crate_dsl.mathematics.penalty import formulas
from crate_dsl.mathematics.record import record_lines, step_operator

HELD = {  # how a matrix starts, where it is not learned
    "random": "{}, never trained",
    "transposed": "not stored",
    "identity": "not stored",
}
KINDS = {EXACT: "derived exactly", APPROXIMATION: "approximated", CHOICE: "chosen"}


@dataclass(frozen=True)
class Line:
    """One line of a record; `before` is None where it is what the line above arrived at."""

    rule: str
    kind: str
    why: str
    place: Span | None
    before: Equation | None
    after: tuple[Equation, ...]


@dataclass(frozen=True)
class Row:
    """A learned matrix or scalar of a step: its shape in names and in numbers, how it starts, for how many layers."""

    name: str
    shape: str
    numbers: str
    start: str
    scope: str


@dataclass(frozen=True)
class StepReport:
    name: str  # "encoder.compress"
    title: str
    place: Span
    lines: tuple[Line, ...]
    operator: tuple[Equation, ...]
    rows: tuple[Row, ...]
    letters: tuple[Entry, ...]


@dataclass(frozen=True)
class BlockReport:
    title: str
    place: Span
    notes: tuple[str, ...]
    lines: tuple[Line, ...]
    steps: tuple[StepReport, ...]


@dataclass(frozen=True)
class Verdict:
    """One row of the closing table."""

    step: str
    rule: str
    why: str
    place: Span | None


@dataclass(frozen=True)
class Report:
    model: Model
    facts: tuple[tuple[str, str], ...]
    blocks: tuple[BlockReport, ...]
    summary: tuple[tuple[str, str, tuple[Verdict, ...]], ...]  # kind, its heading, its rows


def report(derivation: Derivation) -> Report:
    """Everything that an explanation shows."""
    blocks = tuple(_block(derivation.model, block) for block in derivation.blocks)
    summary = tuple((kind, heading, tuple(_verdicts(blocks, kind))) for kind, heading in KINDS.items())
    facts = (*_facts(derivation.model), *_loss_facts(derivation))
    return Report(derivation.model, facts, blocks, summary)


def _verdicts(blocks: Iterable[BlockReport], kind: str) -> Iterator[Verdict]:
    for block in blocks:
        yield from (Verdict(block.title, line.rule, line.why, line.place) for line in block.lines if line.kind == kind)
        for step in block.steps:
            lines = (line for line in step.lines if line.kind == kind)
            yield from (Verdict(step.name, line.rule, line.why, line.place) for line in lines)


# ---- the network as a whole ----------------------------------------------------------------------------------------


def _facts(model: Model) -> Iterator[tuple[str, str]]:
    yield "specification", model.source.name
    if model.preset:
        yield "preset", model.preset
    if model.overrides:
        yield "overrides", _values(model.overrides)
    yield "sizes", _values(model.sizes)
    if model.reals:
        yield "reals", _values(model.reals)
    if model.scalars:
        yield "learned scalars", "; ".join(f"{s.name}: {_start(s)}" for s in model.scalars)
    yield "input", word(model.input)
    tokens = model.tokens
    yield "tokens", f"{tokens.name}: {tokens.rows} x {tokens.cols} = {' + '.join(map(word, tokens.words))}"
    yield "", f"{tokens.count} tokens, {_origin(model)}"
    if model.mask:
        yield "mask", f"{word(model.mask)} before the encoder"
    yield "order", ", then ".join(_stage(stage) for stage in model.stages)
    yield from _depth_facts(model)
    yield "head", word(model.head.word) + (f" of {model.head.of}" if model.head.of else "")


def _origin(model: Model) -> str:
    if model.input.name == "text":
        return f"one for every place of the text, from a vocabulary of {model.input.arguments[1]}"
    origin = "vectors" if model.input.name == "vectors" else "patches"
    return f"{model.tokens.patches} of them {origin} of the input"


def _depth_facts(model: Model) -> Iterator[tuple[str, str]]:
    """What training leaves out at random, and how often."""
    if not model.depth:
        return
    rate = number(model.depth.arguments[0])
    rates = f"{rate} in every layer" if model.depth.name == "uniform" else f"rising from 0 to {rate} over the layers"
    yield "stochastic depth", word(model.depth)
    taken = f"in training, at this rate, {rates}, a step leaves the tokens of one {model.example} as they are"
    yield "", f"{taken}, else what it adds is divided by 1 - rate; projections are always taken (Huang et al. 2016)"


def _loss_facts(derivation: Derivation) -> Iterator[tuple[str, str]]:
    """The loss as stated, and of every energy in it where it is evaluated."""
    if derivation.model.loss:
        yield "loss", derivation.model.loss.text
    for penalty in derivation.penalties:
        mean = "mean over its layers and the batch" if penalty.block else "mean over the batch"
        yield "", f"added in training: {mean}, on {penalty.where}"
        yield from (("", line) for line in formulas(penalty))


def _stage(stage: Block | NormStage | ClassAttention) -> str:
    if not isinstance(stage, Block):
        return f"{'norm' if isinstance(stage, NormStage) else 'class'} {word(stage.word)}"
    return f"{stage.role} ({layers(stage.repeat)})"


def layers(count: int) -> str:
    return f"{count} layer{'s' if count != 1 else ''}"


def number(value: int | Fraction | str) -> str:
    return value if isinstance(value, str) else f"{float(value):.12g}" if isinstance(value, Fraction) else str(value)


def word(value: Word) -> str:
    """A library word as it is written: `patches(16, norm)`."""
    return value.name + (f"({', '.join(map(number, value.arguments))})" if value.arguments else "")


def _values(values: dict) -> str:
    return ", ".join(f"{name} = {number(value)}" for name, value in values.items())


def _start(learned: LearnedScalar) -> str:
    above = f", kept above {number(learned.lower)}" if learned.lower is not None else ""
    return f"starts at {number(learned.start)}{above}"


# ---- blocks and steps ----------------------------------------------------------------------------------------------


def _block(model: Model, derived: DerivedBlock) -> BlockReport:
    block = derived.block
    notes = [f"derived as the inverse of the {block.inverse_of}"] if block.inverse_of else []
    changed = {
        name: size for name, size in block.sizes.items() if model.sizes.get(name) != size and name in model.sizes
    }
    notes += [f"sizes in force here: {_values(changed)}"] if changed else []
    steps = tuple(_step(model, block, step) for step in derived.steps)
    title = f"{block.role}, {layers(block.repeat)}"
    return BlockReport(title, block.span, tuple(notes), tuple(map(_block_line, derived.record)), steps)


def _block_line(line: DerivationStep) -> Line:
    before, after = Equation(NOTHING, str(line.before)), Equation(NOTHING, str(line.after))
    return Line(line.rule, line.kind, line.why, line.span, before, (after,))


def _step(model: Model, block: Block, derived: DerivedStep) -> StepReport:
    step = derived.step
    equations = record_lines(derived, frozenset({*block.sizes, *model.reals}))
    lines = tuple(
        Line(line.rule, line.kind, line.why, line.span or step.span, *shown)
        for line, shown in zip(derived.record, equations, strict=True)
    )
    operator = step_operator(derived, frozenset({*block.sizes, *model.reals}))
    rows = (*(_matrix(p, block) for p in derived.parameters), *_scalar_rows(model, block, derived))
    return StepReport(
        f"{block.role}.{step.label}", step.title, step.span, lines, operator, rows,
        glossary(model, block, derived),
    )  # fmt: skip


def _matrix(parameter: Parameter, block: Block) -> Row:
    shape = parameter.shape
    sizes = [axis_size(axis, block.sizes) for axis in (shape.family, shape.rows, shape.cols) if axis is not None]
    numbers = " x ".join(map(str, sizes[-2:]))
    numbers = f"{sizes[0]} of {numbers}" if shape.family else numbers
    start = word(parameter.init) if parameter.init else "from data" if parameter.fitted else "default"
    start = HELD.get(parameter.held, "{}").format(start)
    return Row(parameter.name, str(shape), f"{numbers} = {prod(sizes):,}", start, _scope(parameter.shared))


def _scope(shared: bool) -> str:
    return "shared by all layers" if shared else "one per layer"


def _scalar_rows(model: Model, block: Block, derived: DerivedStep) -> Iterator[Row]:
    """The learned scalars that the operator holds."""
    held = {base_name(s) for s in scalars_of(derived)}
    for learned in (*model.scalars, *block.scalars):
        if held & {learned.name, learned.base}:
            shape = f"{learned.family} of scalars" if learned.family else "scalar"
            count = block.sizes[learned.family] if learned.family else 1
            everywhere = learned.shared or learned in model.scalars
            yield Row(learned.name, shape, str(count), _start(learned), _scope(everywhere))
