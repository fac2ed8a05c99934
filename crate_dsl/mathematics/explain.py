"""A derivation as text for a terminal, and as Markdown with LaTeX formulas."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator

from crate_dsl.errors import Span, printable
from crate_dsl.mathematics import latex, plain
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.mathematics.equations import Equation
from crate_dsl.mathematics.glossary import Entry
from crate_dsl.mathematics.report import BlockReport, Line, Report, Row, StepReport, Verdict, report

WIDTH = 110
ROW_HEADINGS = ("name", "shape", "numbers", "starts", "kept")
VERDICT_HEADINGS = ("step", "rule", "why", "place")


# ---- text ----------------------------------------------------------------------------------------------------------


def text(derivation: Derivation) -> str:
    """The derivation for a terminal: at most about 110 columns, in the notation of the language."""
    page = report(derivation)
    return "\n".join(_text_lines(page)).rstrip() + "\n"


def _text_lines(page: Report) -> Iterator[str]:
    yield from _headed(printable(page.model.name), "=")
    if page.model.description:
        yield from textwrap.wrap(printable(page.model.description), WIDTH)
    yield ""
    yield from _pairs(page.facts, "")
    for block in page.blocks:
        yield from ("", *_headed(f"{block.title}   ({block.place})", "="))
        yield from block.notes
        yield from _numbered(block.lines)
        for step in block.steps:
            yield from _text_step(step)
    yield from ("", *_headed("Summary", "="))
    for kind, heading, verdicts in page.summary:
        yield from ("", f"{heading} ({kind}): {len(verdicts) or 'nothing'}")
        yield from _table(list(map(cells, verdicts)))


def _headed(title: str, rule: str) -> tuple[str, str]:
    return title, rule * min(len(title), WIDTH)


def _pairs(pairs: Iterable[tuple[str, str]], indent: str) -> Iterator[str]:
    """Names and meanings in two columns."""
    pairs = list(pairs)
    wide = max((len(name) for name, _ in pairs), default=0)
    for name, meaning in pairs:
        head = f"{indent}{name:{wide}}  "
        yield from textwrap.wrap(printable(meaning), WIDTH, initial_indent=head, subsequent_indent=" " * len(head))


def _numbered(lines: Iterable[Line]) -> Iterator[str]:
    for count, line in enumerate(lines, 1):
        yield ""
        head = f"{count:3}. {line.rule}  [{line.kind}]"
        place = str(line.place) if line.place else ""
        yield f"{head}{place:>{max(WIDTH - len(head), len(place) + 2)}}"
        if line.before:
            yield from _text_equation(line.before, "     from  ")
        for number, equation in enumerate(line.after):
            yield from _text_equation(equation, "     to    " if line.before and not number else " " * 11)
        for equation in (e for after in line.after for e in after.where):
            yield from _text_equation(equation, "     where ")
        yield from textwrap.wrap(line.why, WIDTH, initial_indent="     why   ", subsequent_indent=" " * 11)


def _text_equation(equation: Equation, head: str) -> Iterator[str]:
    if isinstance(equation.right, str):
        return iter([head + equation.right])
    left, pieces = plain.equation(equation)
    head += f"{left} = " if left else ""
    return _broken(head, pieces, " " * min(len(head), 24))


def _broken(head: str, pieces: list[str], indent: str) -> Iterator[str]:
    """Pieces put on as few lines as hold them; a piece too long for a line is broken at its blanks."""
    line = head + pieces[0]
    for piece in pieces[1:]:
        if len(line) + 1 + len(piece) > WIDTH:
            yield from _wrapped(line, indent)
            line = indent + piece
        else:
            line += f" {piece}"
    yield from _wrapped(line, indent)


def _wrapped(line: str, indent: str) -> list[str]:
    start = re.match(" *", line)[0]
    whole = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(line.lstrip(), WIDTH, initial_indent=start, subsequent_indent=f"{indent}  ", **whole)


def _text_step(step: StepReport) -> Iterator[str]:
    head, where = f"{step.name}:  {step.title}", f"({step.place})"
    if len(f"{head}   {where}") > WIDTH:
        yield from ("", *_headed(head, "-"), where)
    else:
        yield from ("", *_headed(f"{head}   {where}", "-"))
    yield from _numbered(step.lines)
    yield from ("", "     the operator")
    for equation in step.operator:
        yield from _text_equation(equation, " " * 11)
    for equation in (e for operator in step.operator for e in operator.where):
        yield from _text_equation(equation, "     where ")
    if step.rows:
        yield from ("", "     learned")
        yield from _table([ROW_HEADINGS, *map(row_cells, step.rows)], " " * 11)
    yield from ("", "     letters")
    yield from _pairs([(plain_name(entry), entry.meaning) for entry in step.letters], " " * 11)


def plain_name(entry: Entry) -> str:
    return entry.name if isinstance(entry.name, str) else plain.left(entry.name)


def row_cells(row: Row) -> tuple[str, ...]:
    return row.name, row.shape, row.numbers, row.start, row.scope


def cells(verdict: Verdict) -> tuple[str, ...]:
    return verdict.step, verdict.rule, verdict.why, place(verdict.place)


def place(span: Span | None) -> str:
    """`line:column` in the spec, with the name of the file before it where that is an included one."""
    if span is None:
        return ""
    return str(span) if span.source.asked else ":".join(map(str, span.source.position(span.start)))


def _table(rows: list[tuple[str, ...]], indent: str = "  ") -> Iterator[str]:
    """Columns aligned; the widest one is wrapped so that a row fits the width."""
    if not rows:
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    wide = max(range(len(widths)), key=lambda n: widths[n])
    room = WIDTH - len(indent) - 2 * (len(widths) - 1) - (sum(widths) - widths[wide])
    widths[wide] = min(widths[wide], max(room, 20))
    for row in rows:
        parts = textwrap.wrap(row[wide], widths[wide]) or [""]
        for number, part in enumerate(parts):
            shown = [part if n == wide else ("" if number else cell) for n, cell in enumerate(row)]
            yield (indent + "  ".join(f"{cell:{w}}" for cell, w in zip(shown, widths, strict=True))).rstrip()


# ---- Markdown ------------------------------------------------------------------------------------------------------


def markdown(derivation: Derivation) -> str:
    """The derivation as Markdown; formulas in `$$`, as GitHub, VS Code and pandoc read them."""
    page = report(derivation)
    return "\n".join(_markdown_lines(page)).rstrip() + "\n"


def escaped(text: str) -> str:
    """Free text for Markdown: no character keeps a meaning, neither for Markdown nor for the HTML inside it."""
    text = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|$~:@])", r"\\\1", text)


def code(text: str) -> str:
    """Text between backquotes; those inside it, and the bars that would end a cell of a table, are taken out."""
    return f"`{printable(text).replace('`', chr(39)).replace('|', '∣')}`" if text else ""


def _markdown_lines(page: Report) -> Iterator[str]:
    yield from (f"# {escaped(page.model.name)}", "")
    if page.model.description:
        yield from (escaped(page.model.description), "")
    yield from markdown_table(("", ""), [(escaped(name), code(value)) for name, value in page.facts])
    for block in page.blocks:
        yield from _markdown_block(block)
    yield from ("## Summary", "")
    for kind, heading, verdicts in page.summary:
        yield from (f"**{heading.capitalize()}** ({kind}): {len(verdicts) or 'nothing'}", "")
        rows = [(code(v.step), code(v.rule), escaped(v.why), place(v.place)) for v in verdicts]
        yield from markdown_table(VERDICT_HEADINGS, rows)


def markdown_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield f"| {' | '.join(headings)} |"
        yield "|" + " --- |" * len(headings)
        yield from (f"| {' | '.join(row)} |" for row in rows)
        yield ""


def _markdown_block(block: BlockReport) -> Iterator[str]:
    yield from (f"## {escaped(block.title)}", "", f"Stated at {code(str(block.place))}.", "")
    for note in block.notes:
        yield from (escaped(note), "")
    yield from _markdown_record(block.lines)
    for step in block.steps:
        yield from _markdown_step(step)


def _markdown_step(step: StepReport) -> Iterator[str]:
    yield from (f"### {escaped(step.name)}", "", f"{code(step.title)}, stated at {code(str(step.place))}.", "")
    yield from _markdown_record(step.lines)
    yield from ("**The operator**", "", *_markdown_equations(step.operator))
    if step.rows:
        yield from ("**Learned**", "")
        yield from markdown_table(ROW_HEADINGS, [tuple(map(code, row_cells(row))) for row in step.rows])
    yield from ("**Letters**", "")
    yield from (f"* {_markdown_name(entry)}: {escaped(entry.meaning)}" for entry in step.letters)
    yield ""


def _markdown_name(entry: Entry) -> str:
    return code(entry.name) if isinstance(entry.name, str) else f"${latex.left(entry.name)}$"


def _markdown_record(lines: Iterable[Line]) -> Iterator[str]:
    for count, line in enumerate(lines, 1):
        yield from (f"**{count}. {escaped(line.rule)}** ({line.kind}, {place(line.place)}): {escaped(line.why)}", "")
        if line.before:
            yield from ("from", "", *_markdown_equations((line.before,)), "to", "")
        yield from _markdown_equations(line.after)


def _markdown_equations(equations: Iterable[Equation]) -> Iterator[str]:
    for equation in equations:
        if isinstance(equation.right, str):
            yield from (code(equation.right), "")
        else:
            yield from ("$$", aligned(equation), "$$", "")
        if equation.where:
            yield from ("where " + ", ".join(f"${aligned(definition)}$" for definition in equation.where), "")


def aligned(equation: Equation) -> str:
    """A formula on one line, or broken between its summands where it is long."""
    left, pieces = latex.equation(equation)
    rows = latex.broken(left, pieces)
    if len(rows) == 1:
        return " ".join([f"{left} ="] * bool(left) + pieces)
    return r"\begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}"
