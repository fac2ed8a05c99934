"""Declared learned matrices: `learn b: K of p x 1 = zeros`, at the top of a file or in a block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crate_dsl.errors import Span
from crate_dsl.language import syntax
from crate_dsl.language.energies import Surroundings, shape_from
from crate_dsl.language.model import Shape, Word
from crate_dsl.language.report import Report, may_be_declared, within
from crate_dsl.language.sizes import Scope
from crate_dsl.language.vocabulary import Vocabulary
from crate_dsl.language.words import word_of


@dataclass
class Declared:
    """A declared learned matrix while its file is being checked; `used` says whether any step names it."""

    name: str
    shape: Shape
    init: Word | None
    top: bool
    span: Span
    used: bool = False


def declare_matrices(
    groups: list[syntax.Learns],
    taken: Mapping[str, Span],
    scope: Scope,
    vocabulary: Vocabulary,
    report: Report,
    *,
    top: bool,
) -> dict[str, Declared]:
    """The declared matrices of a file or a block, complaining about names that have a meaning already."""
    found: dict[str, Declared] = {}
    around = Surroundings(scope.axes, {}, {}, any_axis=scope.tokens_axis is None)
    for matrix in (matrix for group in groups for matrix in group.matrices):
        place = within(matrix.span, matrix.name)
        first = found[matrix.name].span if matrix.name in found else taken.get(matrix.name)
        if not may_be_declared(matrix.name, place, first, report):
            continue
        if matrix.dimensions.rows is None or _is_number(matrix.dimensions):
            hint = f'a learned number is written "learn {matrix.name} = 1", one for each head "... = 1 per head"'
            report.error("a declared matrix has rows and columns", matrix.dimensions.span, hint)
            continue
        shape = shape_from(matrix.dimensions, around, report)
        word = word_of("initial value", matrix.init, vocabulary.inits, scope, report)
        found[matrix.name] = Declared(matrix.name, shape, word, top, place)
    return found


def _is_number(dimensions: syntax.Dimensions) -> bool:
    return all(isinstance(axis, syntax.Number) and axis.value == 1 for axis in (dimensions.rows, dimensions.cols))


def warn_unused(declared: Mapping[str, Declared], report: Report) -> None:
    for matrix in declared.values():
        if not matrix.used:
            report.warn(f'learned matrix "{matrix.name}" is not used', matrix.span)
