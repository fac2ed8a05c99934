"""A derivation as a page to read and check: a LaTeX article, or one HTML file that needs no network.

Everything that users wrote (names, descriptions, the spec) is text here and never markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from crate_dsl.errors import Source
from crate_dsl.mathematics import latex
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.mathematics.equations import Equation
from crate_dsl.mathematics.explain import ROW_HEADINGS, VERDICT_HEADINGS, aligned, cells, place, row_cells
from crate_dsl.mathematics.glossary import Entry
from crate_dsl.mathematics.latex_names import escaped
from crate_dsl.mathematics.report import BlockReport, Line, Report, StepReport, report
from crate_dsl.mathematics.webpage import html

__all__ = ["html", "tex"]

PREAMBLE = r"""\documentclass[11pt,a4paper]{article}
\usepackage[margin=2.4cm]{geometry}
\usepackage{amsmath,amssymb,textcomp,array,longtable,color,graphicx}
\newcolumntype{P}[1]{>{\raggedright\arraybackslash}p{#1}}
\definecolor{exact}{rgb}{0.09,0.41,0.23}
\definecolor{approximation}{rgb}{0.58,0.28,0.04}
\definecolor{choice}{rgb}{0.36,0.25,0.63}
\setlength{\parindent}{0pt}
\setlength{\parskip}{4pt}
\allowdisplaybreaks
\raggedright
"""
WIDEST = 74  # a line wider than this is scaled down to the width of the page


def tex(derivation: Derivation) -> str:
    """A standalone article; needs amsmath and what comes with every LaTeX."""
    return "\n".join(_tex_lines(report(derivation))) + "\n"


def _tex_lines(page: Report) -> Iterator[str]:
    yield PREAMBLE + r"\begin{document}"
    yield rf"\begin{{center}}{{\LARGE {escaped(page.model.name)}}}\\[4pt]"
    yield rf"{escaped(page.model.description)}\end{{center}}"
    yield from _tex_table("lP{12cm}", (), [(escaped(a), _typed(b)) for a, b in page.facts])
    yield r"\tableofcontents"
    for block in page.blocks:
        yield from _tex_block(block)
    yield r"\section{Summary}"
    for kind, heading, verdicts in page.summary:
        yield rf"\subsection*{{\textcolor{{{kind}}}{{{heading.capitalize()}}}}}"
        rows = [(*map(escaped, cells(verdict)),) for verdict in verdicts]
        yield from _tex_table("P{3.6cm}P{4cm}P{6.2cm}l", VERDICT_HEADINGS, rows) if rows else ["nothing"]
    yield r"\section{The specification}"
    for source in page.model.sources:
        yield from [rf"\subsection*{{{escaped(source.name)}}}"] if source.asked else []
        yield from _tex_source(source)
    yield r"\end{document}"


def _typed(text: str) -> str:
    """Text as typed; a comma or a blank may end a line."""
    return rf"\texttt{{{escaped(text)}}}"


def _tex_table(columns: str, headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield rf"\begin{{longtable}}[l]{{@{{}}{columns}@{{}}}}"
    if headings:
        yield " & ".join(rf"\textit{{{heading}}}" for heading in headings) + r" \\ \hline \endhead"
    yield from (" & ".join(row) + r" \\" for row in rows)
    yield r"\end{longtable}"


def _tex_block(block: BlockReport) -> Iterator[str]:
    yield rf"\section{{{escaped(block.title)}}}"
    yield rf"Stated at {_typed(str(block.place))}. " + " ".join(f"{escaped(note)}." for note in block.notes)
    yield from _tex_record(block.lines)
    for step in block.steps:
        yield from _tex_step(step)


def _tex_step(step: StepReport) -> Iterator[str]:
    yield rf"\subsection{{{escaped(step.name)}}}"
    yield rf"{_typed(step.title)}, stated at {_typed(str(step.place))}."
    yield from _tex_record(step.lines)
    yield r"\subsubsection*{The operator}"
    yield from _tex_equations(step.operator)
    if step.rows:
        yield r"\subsubsection*{Learned}"
        yield from _tex_table("lllll", ROW_HEADINGS, [tuple(map(escaped, row_cells(row))) for row in step.rows])
    yield r"\subsubsection*{Letters}"
    rows = [(_tex_name(entry), escaped(entry.meaning)) for entry in step.letters]
    yield from _tex_table("lP{11cm}", (), rows)


def _tex_name(entry: Entry) -> str:
    return _typed(entry.name) if isinstance(entry.name, str) else f"${latex.left(entry.name)}$"


def _tex_record(lines: Iterable[Line]) -> Iterator[str]:
    for count, line in enumerate(lines, 1):
        tag = rf"\textcolor{{{line.kind}}}{{{line.kind}}}"
        yield ""
        yield rf"\textbf{{{count}. {escaped(line.rule)}}} ({tag}, {place(line.place)}): {escaped(line.why)}"
        if line.before:
            yield from ("", "from", *_tex_equations((line.before,)), "to")
        yield from _tex_equations(line.after)


def _tex_equations(equations: Iterable[Equation]) -> Iterator[str]:
    for equation in equations:
        yield from _tex_equation(equation)
        if equation.where:
            yield "where " + ", ".join(f"${aligned(definition)}$" for definition in equation.where)


def _tex_equation(equation: Equation) -> Iterator[str]:
    if isinstance(equation.right, str):
        return iter([rf"\begin{{quote}}{_typed(equation.right)}\end{{quote}}"])
    left, pieces = latex.equation(equation)
    rows = latex.broken(left, pieces)
    body = " \\\\\n".join(rows)
    if latex.width(left, rows) > WIDEST:
        inner = rf"$\displaystyle\begin{{aligned}}{body}\end{{aligned}}$"
        return iter([rf"\[\resizebox{{\linewidth}}{{!}}{{{inner}}}\]"])
    return iter([r"\begin{align*}", body, r"\end{align*}"])


def _tex_source(source: Source) -> Iterator[str]:
    yield r"{\footnotesize\begin{longtable}[l]{@{}rP{14.6cm}@{}}"
    for count, line in enumerate(source.text.rstrip("\n").split("\n"), 1):
        text = escaped(line).replace(" ", r"\ ")
        yield rf"{count} & \texttt{{{text}}} \\"
    yield r"\end{longtable}}"
