"""A derivation as one HTML file that needs no network: formulas as MathML, places linked to the lines of the spec.

Everything that users wrote (names, descriptions, the spec) is text here and never markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape

from crate_dsl.errors import Source, Span
from crate_dsl.mathematics import latex
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.mathematics.equations import Equation
from crate_dsl.mathematics.explain import ROW_HEADINGS, VERDICT_HEADINGS, place, row_cells
from crate_dsl.mathematics.glossary import Entry
from crate_dsl.mathematics.report import BlockReport, Line, Report, StepReport, report
from crate_dsl.mathematics.style import STYLE


def html(derivation: Derivation) -> str:
    """One self-contained file: formulas as MathML, places linked to the lines of the spec at its end."""
    return "\n".join(_html_lines(report(derivation))) + "\n"


def _html_lines(page: Report) -> Iterator[str]:
    title = escape(page.model.name)
    yield f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style>\n</head>\n<body>"
    yield f'<h1>{title}</h1>\n<p class="lead">{escape(page.model.description)}</p>'
    rows = [(escape(name), f"<code>{escape(value)}</code>") for name, value in page.facts]
    yield from _html_table((), rows, "facts")
    yield from _contents(page)
    for number, block in enumerate(page.blocks):
        yield from _html_block(block, number)
    yield from _html_summary(page)
    yield '<h2 id="source">The specification</h2>'
    for source in page.model.sources:
        yield f"<h3>{escape(source.name)}</h3>" if source.asked else ""
        yield '<pre class="source">' + "".join(_html_source(source)) + "</pre>"
    yield "</body>\n</html>"


def _contents(page: Report) -> Iterator[str]:
    yield "<nav><ul>"
    for number, block in enumerate(page.blocks):
        yield f'<li><a href="#block-{number}">{escape(block.title)}</a><ul>'
        for step in block.steps:
            name = escape(step.name)
            yield f'<li><a href="#{name}">{name}</a> <code>{escape(step.title)}</code></li>'
        yield "</ul></li>"
    yield '<li><a href="#summary">Summary</a></li><li><a href="#source">The specification</a></li></ul></nav>'


def _html_block(block: BlockReport, number: int) -> Iterator[str]:
    yield f'<h2 id="block-{number}">{escape(block.title)}</h2>'
    yield (
        f'<p class="note">stated at {_link(block.place)}'
        + "".join(f"; {escape(note)}" for note in block.notes)
        + "</p>"
    )
    yield from _html_record(block.lines)
    for step in block.steps:
        yield from _html_step(step)


def _html_step(step: StepReport) -> Iterator[str]:
    name = escape(step.name)
    yield f'<section>\n<h3 id="{name}">{name}</h3>'
    yield f'<p class="note"><code>{escape(step.title)}</code>, stated at {_link(step.place)}</p>'
    yield from _html_record(step.lines)
    yield '<h4>The operator</h4>\n<div class="operator">'
    yield from _html_equations(step.operator)
    yield "</div>"
    if step.rows:
        rows = [tuple(f"<code>{escape(cell)}</code>" for cell in row_cells(row)) for row in step.rows]
        yield from ("<h4>Learned</h4>", *_html_table(ROW_HEADINGS, rows))
    yield '<h4>Letters</h4>\n<dl class="letters">'
    yield from (f"<dt>{_html_name(entry)}</dt><dd>{escape(entry.meaning)}</dd>" for entry in step.letters)
    yield "</dl>\n</section>"


def _html_name(entry: Entry) -> str:
    return (
        f"<code>{escape(entry.name)}</code>"
        if isinstance(entry.name, str)
        else mathml(latex.left(entry.name), "inline")
    )


def _html_record(lines: Iterable[Line]) -> Iterator[str]:
    if not lines:
        return
    yield '<ol class="record">'
    for count, line in enumerate(lines, 1):
        tag = f'<span class="tag {line.kind}">{line.kind}</span>'
        rule = f'<span class="rule">{count}. {escape(line.rule)}</span>'
        link = f'<span class="place">{_link(line.place)}</span>'
        yield f'<li class="{line.kind}"><div class="head">{rule}{tag}{link}</div>'
        if line.before:
            yield from _html_equations((line.before,), " from")
        yield from _html_equations(line.after)
        yield f'<p class="why">{escape(line.why)}</p></li>'
    yield "</ol>"


def _html_equations(equations: Iterable[Equation], kind: str = "") -> Iterator[str]:
    for equation in equations:
        yield f'<div class="formula{kind}">{_html_formula(equation)}</div>'
        if equation.where:
            yield f'<div class="formula where">{" ".join(map(_html_formula, equation.where))}</div>'


def _html_formula(equation: Equation) -> str:
    if isinstance(equation.right, str):
        return f"<code>{escape(equation.right)}</code>"
    left, pieces = latex.equation(equation)
    rows = latex.broken(left, pieces)
    if len(rows) == 1:
        return mathml(" ".join([f"{left} ="] * bool(left) + pieces), "block")
    body = r" \\ ".join(rows)
    return mathml(rf"\begin{{align*}} {body} \end{{align*}}", "block")


def mathml(formula: str, display: str) -> str:
    """A formula as MathML, which browsers set by themselves; words are set closer than operators."""
    from latex2mathml.converter import convert  # costs 70 ms, and only this page needs it

    text = convert(formula, display=display)
    text = re.sub(r"<mo>(?=[A-Za-z]{2})", '<mo lspace="0.17em" rspace="0em">', text)
    text = text.replace('fence="true" form=', 'lspace="0em" rspace="0em" fence="true" form=')
    return text.replace('<mo stretchy="true">&#x000AF;</mo>', '<mo stretchy="true" accent="true">&#x0203E;</mo>')


def _html_summary(page: Report) -> Iterator[str]:
    yield '<h2 id="summary">Summary</h2>'
    for kind, heading, verdicts in page.summary:
        yield f'<h4><span class="tag {kind}">{kind}</span> {heading}</h4>'
        rows = [(escape(v.step), f"<code>{escape(v.rule)}</code>", escape(v.why), _link(v.place)) for v in verdicts]
        yield from _html_table(VERDICT_HEADINGS, rows) if rows else ["<p>nothing</p>"]


def _html_table(headings: tuple[str, ...], rows: list[tuple[str, ...]], kind: str = "") -> Iterator[str]:
    """A table of cells that are HTML already; without headings the first cell of a row heads it."""
    yield f'<div class="scroll"><table class="{kind}">'
    if headings:
        yield f"<tr>{''.join(f'<th>{heading}</th>' for heading in headings)}</tr>"
    for first, *rest in rows:
        cell = "td" if headings else "th"
        yield f"<tr><{cell}>{first}</{cell}>{''.join(f'<td>{text}</td>' for text in rest)}</tr>"
    yield "</table></div>"


def _link(span: Span | None) -> str:
    if span is None:
        return ""
    line, _ = span.source.position(span.start)
    return f'<a href="#{_anchor(span.source)}{line}">{escape(place(span))}</a>'


def _anchor(source: Source) -> str:
    """What the lines of a file are called in the page."""
    return re.sub(r"\W", "-", source.name) + "-L" if source.asked else "L"


def _html_source(source: Source) -> Iterator[str]:
    for count, line in enumerate(source.text.rstrip("\n").split("\n"), 1):
        yield f'<span id="{_anchor(source)}{count}">{escape(line)}</span>'
