"""One step of a layer as a box: what it optimises, what it computes, what is approximated, learned and spent."""

from __future__ import annotations

from collections.abc import Iterator

from crate_dsl.language.model import Model, Step, written
from crate_dsl.mathematics import latex
from crate_dsl.mathematics.derivation import APPROXIMATION, CHOICE, EXACT, DerivedStep
from crate_dsl.mathematics.equations import Equation
from crate_dsl.mathematics.overview import parts
from crate_dsl.mathematics.report import Line, StepReport, word
from crate_dsl.mathematics.report import Row as LearnedRow
from crate_dsl.operators.program import StepProgram
from crate_dsl.operators.summary import Row
from crate_dsl.operators.uses import step_parameters, step_scalars
from crate_dsl.pictures.drawing import Arrow, Box, Node, Tag, Text
from crate_dsl.pictures.sizes import amount, operations, times

LONGEST_TAG = 60


def step_box(role: str, program: StepProgram, page: StepReport, row: Row | None, model: Model) -> Box:
    """The box of a step; `row` is its line in the table of costs."""
    texts = [Text("title", page.title), *_formulas(page), *_learned(page)]
    if row:
        texts.append(_cost(row, program, model))
    return Box("step", _nodes(role, program.derived), tuple(texts), tuple(_tags(program.derived.step, page)),
               program.derived.step.verb)  # fmt: skip


# ---- texts ---------------------------------------------------------------------------------------------------------


def _formulas(page: StepReport) -> Iterator[Text]:
    """The stated energy, the operator, and what its letters and functions are."""
    found = parts(page)
    yield from (_formula("objective", "", equation) for equation in found.stated)
    yield from (_formula("operator", "", equation) for equation in found.assigned)
    yield from (_formula("where", "where " if n == 0 else "", equation) for n, equation in enumerate(found.defined))


def _formula(role: str, words: str, equation: Equation) -> Text:
    if isinstance(equation.right, str):
        return Text(role, words + equation.right)
    left, pieces = latex.equation(equation)
    return Text(role, words, (f"{left} = {pieces[0]}" if left else pieces[0], *pieces[1:]))


def _learned(page: StepReport) -> Iterator[Text]:
    """Every learned matrix with its sizes, learned scalars with where they start."""
    if page.rows:
        yield Text("fact", "learned: " + ", ".join(map(_held, page.rows)))


def _held(row: LearnedRow) -> str:
    what = times(row.numbers.partition(" = ")[0]) if " x " in row.shape else f"{row.shape}, {row.start}"
    return f"{row.name} ({what}{', shared' if row.scope.startswith('shared') else ''})"


def _cost(row: Row, program: StepProgram, model: Model) -> Text:
    """Of one layer where every layer has its own parameters, of all of them where they share some."""
    held = [parameter for parameter, _ in step_parameters(program)]
    scalars = step_scalars(program, model)
    shared = any(p.shared for p in held) or any(s.shared or s in model.scalars for s in scalars)
    flops = operations(row.flops // row.layers)
    if shared or row.parameters % row.layers:
        return Text("cost", f"{amount(row.parameters, 'parameter')} in all layers, {flops} in each")
    each = " per layer" if row.layers > 1 else ""
    parts = [amount(row.parameters // row.layers, "parameter")] * bool(row.parameters) + [flops]
    return Text("cost", ", ".join(parts) + each)


# ---- tags ----------------------------------------------------------------------------------------------------------


def _tags(step: Step, page: StepReport) -> Iterator[Tag]:
    """Approximations and choices; the norm is drawn and a let is defined, so neither is said again."""
    lines = [
        line for line in page.lines if line.kind in (APPROXIMATION, CHOICE) and line.rule not in ("norm", "let", "fit")
    ]
    if not any(line.kind == APPROXIMATION or "~" in line.rule for line in lines):
        yield Tag(EXACT, "nothing approximated", "derived by exact rules alone")
    yield from (Tag(line.kind, _tag_words(line, step), line.why) for line in lines)


def _tag_words(line: Line, step: Step) -> str:
    """A rule at a site as it is written in the spec, with its arguments; anything else in words where they are few."""
    for site in step.sites:
        if line.rule == f"{site.site} ~ {site.rule}":
            return written(site.span)
    return line.why if "~" not in line.rule and len(line.why) <= LONGEST_TAG else line.rule


# ---- nodes and skips -----------------------------------------------------------------------------------------------


def _nodes(role: str, derived: DerivedStep) -> tuple[Node, ...]:
    name = f"{role}.{derived.step.label}"
    nodes = [Node(name, derived.step.verb, "operator")]
    if derived.step.norm:
        nodes.insert(0, Node(f"{name}.norm", f"norm {word(derived.step.norm)}", "norm"))
    if skipped(derived):
        nodes.append(Node(f"{name}.sum", "+", "sum"))
    return tuple(nodes)


def skipped(derived: DerivedStep) -> str | None:
    """What goes around the operator: "raw" or "normed" tokens, None where nothing does.

    Read off the derived operator itself: a word of its last sum that is the tokens alone.
    """
    last = derived.assignments[-1]
    if last.prox is not None:
        return None
    alone = [w.factors[0] for w in last.value.words if len(w.factors) == 1 and not w.over]
    if derived.raw in alone:
        return "raw"
    return "normed" if derived.read in alone else None


def step_arrows(role: str, program: StepProgram, before: str) -> Iterator[Arrow]:
    """The skip of a step: from what enters it, or from its norm, to the sum behind its operator."""
    kind = skipped(program.derived)
    if kind:
        name = f"{role}.{program.derived.step.label}"
        yield Arrow(before if kind == "raw" else f"{name}.norm", f"{name}.sum", kind, "skip")
