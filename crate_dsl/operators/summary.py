"""Parameters and operations of a network, step by step: the data behind `--summary`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from crate_dsl.language.convolutions import halvings
from crate_dsl.language.model import ONE, Block, ClassAttention, LearnedScalar, Model, NormStage, Parameter, axis_size
from crate_dsl.operators.cost import BATCH, cost, quantity
from crate_dsl.operators.kinds import SOFTMAX_FLOPS
from crate_dsl.operators.program import BlockProgram, Program, StepProgram
from crate_dsl.operators.uses import runs, step_parameters, step_scalars

WAVES = 64  # that Fourier positions are made of
NORM_FLOPS = 8  # per entry: mean, variance, quotient, and the affine part


@dataclass(frozen=True)
class Row:
    """One step of one stage, all its layers together; operations are those of one input."""

    stage: str
    step: str
    layers: int
    parameters: int
    flops: int


@dataclass(frozen=True)
class Summary:
    rows: tuple[Row, ...]
    batch: int  # inputs over which work on weights alone is spread
    example: str = "image"  # what one of them is
    loss: str = ""  # as stated, with what its penalty costs
    frozen: bool = False  # work on weights is left out

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def flops(self) -> int:
        return sum(row.flops for row in self.rows)

    def __str__(self) -> str:
        header = ("stage", "step", "layers", "parameters", f"FLOPs per {self.example}")
        cells = [(r.stage, r.step, str(r.layers), f"{r.parameters:,}", quantity(r.flops).strip()) for r in self.rows]
        total = ("total", "", "", f"{self.parameters:,}", quantity(self.flops).strip())
        table = [header, *cells, total]
        widths = [max(len(row[column]) for row in table) for column in range(len(header))]
        lines = [_line(row, widths) for row in table]
        rule = "-" * len(lines[0])
        inputs = f"{self.batch} {self.example}{'s' * (self.batch > 1)}"
        note = f"FLOPs of a forward pass over {inputs}, divided by {self.batch}"
        note += "; frozen: without what is made of weights once" if self.frozen else ""
        loss = [self.loss] if self.loss else []
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], "", note, *loss])


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
    right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
    return "  ".join(left + right)


def summary(program: Program, batch: int = BATCH) -> Summary:
    """The table of a network, stem and head included; parameters that layers or steps share count once."""
    model = program.derivation.model
    rows = [_stem(model, batch)]
    seen: set[str] = set()
    for stage in model.stages:
        if isinstance(stage, NormStage):
            entries = model.tokens.count * model.sizes[model.tokens.rows]
            rows.append(Row(stage.name, "norm", 1, 2 * model.sizes[model.tokens.rows], NORM_FLOPS * entries))
        elif isinstance(stage, ClassAttention):
            rows.append(_attention(stage, model))
        else:
            block = next(b for b in program.blocks if b.block.role == stage.role)
            rows += _block(block, model, seen, batch)
    return Summary((*rows, _head(model)), batch, model.example, _loss(program, batch), program.frozen)


def _loss(program: Program, batch: int) -> str:
    """The loss as stated; its energies are evaluated in training alone, so the table leaves them out."""
    loss, flops = program.derivation.model.loss, 0
    for penalty in program.penalties:
        layers = penalty.derived.block.repeat if penalty.derived.block else 1
        flops += cost(penalty.graph, batch).flops // batch * layers
    example = program.derivation.model.example
    added = f"; its penalty adds {quantity(flops).strip()} FLOPs per {example} in training" if flops else ""
    return f"loss: {loss.text}{added}" if loss else ""


def _stem(model: Model, batch: int) -> Row:
    words = {word.name: word.arguments for word in model.tokens.words}
    d = model.sizes[model.tokens.rows]
    parameters, flops = _embedding(model, words)
    parameters += d * (("class_token" in words) + (model.mask is not None))
    if "position" in words:
        parameters += {"learned": model.tokens.count, "fourier": WAVES + 1}.get(words["position"][0], 0) * d
        flops += model.tokens.count * d
        flops += (2 * WAVES + 1) * model.tokens.patches * d // batch if words["position"][0] == "fourier" else 0
    return Row("stem", "tokens", 1, parameters, flops)


def _embedding(model: Model, words: Mapping[str, tuple[int | Fraction | str, ...]]) -> tuple[int, int]:
    """Parameters and operations of what makes tokens of the input; vectors are tokens as they are."""
    if "patches" in words:
        return _patches(model, words["patches"])
    if "convolutions" in words:
        return _convolutions(model)
    return (_vocabulary(model) * model.sizes[model.tokens.rows], 0) if "embedding" in words else (0, 0)


def _patches(model: Model, arguments: tuple[int | Fraction | str, ...]) -> tuple[int, int]:
    """Parameters and operations of the embedding of patches, of which a mask leaves some."""
    d, n, pixels = model.sizes[model.tokens.rows], model.visible, model.pixels
    parameters, flops = pixels * d + d, (2 * pixels + 1) * d * n
    if "norm" in arguments:
        parameters += 2 * pixels + 2 * d
        flops += NORM_FLOPS * n * (pixels + d)
    return parameters, flops


def _convolutions(model: Model) -> tuple[int, int]:
    """Parameters and operations of the convolutional stem."""
    parameters, flops = 0, 0
    for places, inner, outer in convolution_sizes(model):
        parameters += (9 * inner + 2) * outer
        flops += (2 * 9 * inner + NORM_FLOPS) * outer * places
    return parameters, flops


def convolution_sizes(model: Model) -> list[tuple[int, int, int]]:
    """For every convolution of the stem how many places it gives, and features before and after it."""
    channels, height, width = model.input.arguments
    d, count = model.sizes[model.tokens.rows], halvings(model.patch[0])
    widths = [channels, *(d >> n for n in reversed(range(count)))]
    pairs = enumerate(zip(widths, widths[1:], strict=False), start=1)
    return [((height >> n) * (width >> n), inner, outer) for n, (inner, outer) in pairs]


def _attention(stage: ClassAttention, model: Model) -> Row:
    """Class attention: all blocks; keys and values of every token, all else of the class token alone."""
    d, tokens = model.sizes[model.tokens.rows], model.tokens.count + 1
    parameters = 12 * d * d + 15 * d  # four maps d x d, a perceptron of 4 d, biases, norms and scales
    flops = (4 * d + 2) * d * tokens  # keys and values
    flops += 4 * d * tokens + SOFTMAX_FLOPS * stage.heads * tokens + 2 * NORM_FLOPS * d * tokens
    flops += 2 * 10 * d * d + 7 * d  # query, read-out and perceptron
    flops += 5 * d * tokens  # what is scaled and added
    return Row(stage.name, "attention", stage.blocks, stage.blocks * parameters + d, stage.blocks * flops)


def _vocabulary(model: Model) -> int:
    return int(model.input.arguments[1])


def _head(model: Model) -> Row:
    d = model.sizes[model.tokens.rows]
    if model.head.word.name in ("tokens", "features"):
        return Row("head", model.head.word.name, 1, 0, 0)
    if model.head.word.name == "vocabulary":  # without a bias; a tied one is the embedding, counted there
        entries = _vocabulary(model) * d
        return Row(
            "head", "vocabulary", 1, 0 if model.head.word.arguments else entries, 2 * entries * model.tokens.count
        )
    if model.head.word.name == "classify":
        outputs, tokens = int(model.head.word.arguments[0]), 1
    else:
        outputs, tokens = model.pixels, model.tokens.patches
    return Row("head", model.head.word.name, 1, (d + 1) * outputs, (2 * d + 1) * outputs * tokens)


def _block(block: BlockProgram, model: Model, seen: set[str], batch: int) -> Iterator[Row]:
    layers, owned = block.block.repeat, set()
    for step, graphs in runs(block):
        parameters = _norm_parameters(step) * layers
        for held in (
            *(p for p, used in step_parameters(step) if used and p.stored and not p.fitted),
            *step_scalars(step, model),
        ):
            parameters += _count(held, block.block, model, owned, seen)
        flops = sum(cost(graph, batch).flops * times for graph, times in graphs) // batch
        flops += _norm_flops(step, model) * layers
        yield Row(block.block.role, step.derived.step.label, layers, parameters, flops)


def _count(held: Parameter | LearnedScalar, block: Block, model: Model, owned: set[str], seen: set[str]) -> int:
    """Entries over all layers of what no step before has counted."""
    if isinstance(held, Parameter) and held.origin:  # its step's own
        return _entries(held, block) * (1 if held.shared else block.repeat)
    top = held.top if isinstance(held, Parameter) else held in model.scalars
    if held.name in owned or (top and held.name in seen):
        return 0
    owned.add(held.name)
    if top:
        seen.add(held.name)
    return _entries(held, block) * (1 if held.shared or top else block.repeat)


def _entries(held: Parameter | LearnedScalar, block: Block) -> int:
    if isinstance(held, LearnedScalar):
        return axis_size(held.family or ONE, block.sizes)
    shape = held.shape
    return prod(axis_size(axis or ONE, block.sizes) for axis in (shape.family, shape.rows, shape.cols))


def _norm_parameters(step: StepProgram) -> int:
    return 2 * step.block.sizes[step.derived.raw.rows] if step.derived.step.norm else 0


def _norm_flops(step: StepProgram, model: Model) -> int:
    entries = step.block.sizes[step.derived.raw.rows] * model.tokens.count
    return NORM_FLOPS * entries if step.derived.step.norm else 0
