"""A program as a drawing: input, tokens, the steps of every block, norms, head and output, in the order of the flow.

Nothing here knows an energy, a step or a word by its name: what a picture says comes from the report of the derivation
and from the table of costs, so that a new word of the language is drawn as soon as those know it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crate_dsl.language.model import ClassAttention, Model, NormStage
from crate_dsl.mathematics.derivation import APPROXIMATION, CHOICE, EXACT
from crate_dsl.mathematics.report import BlockReport, Report, report, word
from crate_dsl.operators.cost import BATCH
from crate_dsl.operators.program import BlockProgram, Program
from crate_dsl.operators.summary import Row, Summary, summary
from crate_dsl.pictures.drawing import Arrow, Box, Drawing, Frame, Node, Tag, Text, boxes_of
from crate_dsl.pictures.sizes import amount, input_size, operations, output_size, pooled_size, times, tokens_size
from crate_dsl.pictures.step import step_arrows, step_box

MEANINGS = {
    EXACT: "follows from the stated energy, verified by --check",
    APPROXIMATION: "a rewriting that changes the operator, measured by --check",
    CHOICE: "a decision that the energy leaves open",
}


@dataclass(frozen=True)
class Figures:
    """The rows of the cost table by stage and step."""

    rows: dict[tuple[str, str], Row]

    @staticmethod
    def of(table: Summary) -> Figures:
        return Figures({(row.stage, row.step): row for row in table.rows})

    def stage(self, name: str) -> list[Row]:
        return [row for (stage, _), row in self.rows.items() if stage == name]


def draw(program: Program, batch: int = BATCH) -> Drawing:
    """The drawing of a network; of every block one layer, with the number of its layers."""
    model, page, table = program.derivation.model, report(program.derivation), summary(program, batch)
    figures = Figures.of(table)
    items: list[Box | Frame] = [*_front(model, page, figures)]
    reports = {block.block.role: pair for block, pair in zip(program.blocks, page.blocks, strict=True)}
    programs = {block.block.role: block for block in program.blocks}
    for stage in model.stages:
        if isinstance(stage, NormStage):
            items.append(_norm(stage, figures))
        elif isinstance(stage, ClassAttention):
            items.append(_attention(stage, figures))
        else:
            items.append(_frame(programs[stage.role], reports[stage.role], model, figures))
    items += _end(model, page, figures)
    arrows = tuple(_arrows(program, items))
    notes, footnotes = tuple(_notes(page, table)), tuple(_footnotes(table))
    return Drawing(model.name, model.description, notes, tuple(items), arrows, tuple(_legend(items)), footnotes)


def _notes(page: Report, table: Summary) -> Iterator[str]:
    """What stands under the title: size of the network, and the sizes in force."""
    yield f"{amount(table.parameters, 'parameter')}, {operations(table.flops)} per input"
    facts = dict(page.facts)
    yield from (f"{name} {facts[name]}" if name == "preset" else facts[name] for name in ("preset", "sizes", "reals")
                if name in facts)  # fmt: skip


def _legend(items: list[Box | Frame]) -> Iterator[Tag]:
    """The kinds of tags that occur, each explained by its own look."""
    used = {tag.kind for item in (*items, *boxes_of(items)) for tag in item.tags}
    yield from (Tag(kind, kind, meaning) for kind, meaning in MEANINGS.items() if kind in used)


def _footnotes(table: Summary) -> Iterator[str]:
    yield (
        "Sizes along the flow are tokens × features of one input; formulas hold tokens as columns. "
        f"FLOP of one input in a forward pass over {table.batch}."
    )


def _cost(rows: list[Row]) -> tuple[Text, ...]:
    """Parameters and operations of a stage that stands once."""
    parameters, flops = sum(row.parameters for row in rows), sum(row.flops for row in rows)
    parts = [amount(parameters, "parameter")] * bool(parameters) + [operations(flops)] * bool(flops)
    return (Text("cost", ", ".join(parts)),) if parts else ()


# ---- what surrounds the blocks -------------------------------------------------------------------------------------


def _front(model: Model, page: Report, figures: Figures) -> Iterator[Box]:
    yield Box("input", (Node("input", word(model.input), "word"),), (Text("fact", "the input"),))
    tokens, first = model.tokens, model.tokens.words[:1]
    words = [*first, *([model.mask] if model.mask else []), *tokens.words[1:]]
    nodes = tuple(Node(f"tokens.{w.name}", f"mask {word(w)}" if w is model.mask else word(w), "word") for w in words)
    title = f"tokens {tokens.name}: {tokens.rows} x {tokens.cols} = {' + '.join(map(word, tokens.words))}"
    facts = [Text("fact", value) for value in _continued(page, "tokens")]
    facts += [Text("fact", f"{name}: {value}") for name, value in page.facts if name == "mask"]
    yield Box("tokens", nodes, (Text("title", times(title)), *facts, *_cost(figures.stage("stem"))))


def _continued(page: Report, name: str) -> Iterator[str]:
    """The lines without a name that follow a fact."""
    inside = False
    for key, value in page.facts:
        inside = key == name or (inside and key == "")
        if inside and key == "":
            yield value


def _norm(stage: NormStage, figures: Figures) -> Box:
    return Box("norm", (Node(stage.name, f"norm {word(stage.word)}", "norm"),), _cost(figures.stage(stage.name)))


def _attention(stage: ClassAttention, figures: Figures) -> Box:
    title = Text("title", f"class {word(stage.word)}")
    return Box(
        "attention",
        (Node(stage.name, "class token reads all", "operator"),),
        (title, *_cost(figures.stage(stage.name))),
    )


def _end(model: Model, page: Report, figures: Figures) -> Iterator[Box]:
    reads = f" of {model.head.of}" if model.head.of else ""
    title = Text("title", f"head {word(model.head.word)}{reads}")
    yield Box("head", (Node("head", model.head.word.name, "operator"),), (title, *_cost(figures.stage("head"))))
    yield Box("output", (Node("output", "output", "word"),))
    for value in (value for name, value in page.facts if name == "loss"):
        facts = [Text("fact", line) for line in _continued(page, "loss")]
        yield Box("loss", (Node("loss", "loss", "word"),), (Text("title", f"loss {value}"), *facts))


def _frame(block: BlockProgram, page: BlockReport, model: Model, figures: Figures) -> Frame:
    """One layer of a block."""
    role, count = block.block.role, block.block.repeat
    boxes = tuple(
        step_box(role, step, shown, figures.rows.get((role, step.derived.step.label)), model)
        for step, shown in zip(block.steps, page.steps, strict=True)
    )
    rows = figures.stage(role)
    figure = f"{amount(sum(r.parameters for r in rows), 'parameter')}, {operations(sum(r.flops for r in rows))}"
    tags = tuple(Tag(line.kind, line.rule, line.why) for line in page.lines)
    return Frame(role, page.title.partition(",")[0], count, (*page.notes, figure), _unique(tags), boxes)


def _unique(tags: tuple[Tag, ...]) -> tuple[Tag, ...]:
    """One tag for every wording; the reasons of equal ones are joined."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for tag in tags:
        reasons.setdefault((tag.kind, tag.words), []).append(tag.why)
    return tuple(Tag(kind, words, "; ".join(whys)) for (kind, words), whys in reasons.items())


# ---- arrows --------------------------------------------------------------------------------------------------------


def _arrows(program: Program, items: list[Box | Frame]) -> Iterator[Arrow]:
    """From box to box with the size of what flows, inside every box from node to node, and around the operators."""
    model = program.derivation.model
    boxes, more = list(boxes_of(items)), 0
    for before, box in zip([None, *boxes], boxes, strict=False):
        if before is not None:
            more += before.kind == "attention"  # the class token
            label = {"tokens": input_size(model), "head": pooled_size(model), "output": output_size(model),
                     "loss": ""}.get(box.kind, tokens_size(model, more))  # fmt: skip
            kind = "training" if box.kind == "loss" else "flow"
            yield Arrow(before.nodes[-1].name, box.nodes[0].name, label, kind)
        for first, second in zip(box.nodes, box.nodes[1:], strict=False):
            yield Arrow(first.name, second.name)
    for block in program.blocks:
        for step in block.steps:
            before = _before(boxes, f"{block.block.role}.{step.derived.step.label}")
            yield from step_arrows(block.block.role, step, before)


def _before(boxes: list[Box], name: str) -> str:
    """The node from which the tokens enter the step of this name."""
    place = next(n for n, box in enumerate(boxes) if name in {node.name for node in box.nodes})
    return boxes[place - 1].nodes[-1].name
