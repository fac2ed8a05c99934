"""Objective and operator of every step in LaTeX: the two lines that say what a network is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crate_dsl.mathematics import latex
from crate_dsl.mathematics.derivation import Derivation
from crate_dsl.mathematics.equations import Equation
from crate_dsl.mathematics.report import BlockReport, StepReport, report


@dataclass(frozen=True)
class StepOverview:
    """One step: `formula` holds the rows of an `aligned` environment, the stated energy first, then the operator."""

    name: str  # "encoder.compress"
    title: str  # "compress Z by rate(Z, U)"
    block: str  # "encoder, 12 layers"
    formula: tuple[str, ...]

    @property
    def aligned(self) -> str:
        return "\n".join([r"\begin{aligned}", " \\\\\n".join(self.formula), r"\end{aligned}"])


def overview(derivation: Derivation) -> tuple[StepOverview, ...]:
    """Every step of every block, in order."""
    return tuple(_step(block, step) for block in report(derivation).blocks for step in block.steps)


@dataclass(frozen=True)
class Parts:
    """The equations that say what a step is: the stated energy, what is computed, what the letters in it stand for."""

    stated: tuple[Equation, ...]
    assigned: tuple[Equation, ...]
    defined: tuple[Equation, ...]


def parts(step: StepReport) -> Parts:
    """The equations of a step without its derivation; of a proximal map the closed form where there is one."""
    stated = tuple(equation for line in step.lines if line.rule == "energy" for equation in line.after)
    assigned = tuple(equation for equation in step.operator if equation.left.kind != "prox")
    held = [equation for line in step.lines if line.rule in ("let", "fit", "given") for equation in line.after]
    letters = [definition for equation in (*step.operator, *held) for definition in equation.where]
    maps = [equation for equation in step.operator if equation.left.kind == "prox"]
    closed = {equation.left: equation for equation in reversed(maps)}  # the first of each stays
    return Parts(stated, assigned, tuple(dict.fromkeys([*held, *letters, *closed.values()])))


def _step(block: BlockReport, step: StepReport) -> StepOverview:
    found = parts(step)
    equations = (*found.stated, *found.assigned, *found.defined)
    rows = [row for equation in equations if not isinstance(equation.right, str) for row in _rows(equation)]
    return StepOverview(step.name, step.title, block.title, tuple(rows))


def _rows(equation: Equation) -> list[str]:
    return [portable(row) for row in latex.broken(*latex.equation(equation))]


def portable(text: str) -> str:
    r"""The formula without `\operatorname`, which GitHub does not allow (github/markup issue 1688).

    >>> portable(r"\operatorname{softmax}(A)")
    '\\mathrm{softmax}(A)'
    """
    return re.sub(r"\\operatorname\{", r"\\mathrm{", text)
