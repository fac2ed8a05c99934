"""Learned scalars: `learn beta > 0 = 0.1 [per head | per iteration]`, at the top of a file or in a block."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from crate_dsl.errors import CrateError, Span, fail
from crate_dsl.language import syntax
from crate_dsl.language.model import LearnedScalar
from crate_dsl.language.report import Report, may_be_declared, shown, within
from crate_dsl.language.sizes import Broken, Scope, evaluate


@dataclass
class Learned:
    """A learned scalar while its block is being checked: the family of `per head` is found where it is used."""

    name: str
    start: Fraction
    lower: Fraction | None
    per_head: bool
    span: Span
    family: str | None = None
    shared: bool = False
    per_iteration: bool = False
    iterations: int | None = None

    def finished(self) -> tuple[LearnedScalar, ...]:
        """The scalar, or one for each iteration of the steps that use it."""
        whole = LearnedScalar(self.name, self.start, self.lower, self.family, self.shared, self.span)
        if not self.per_iteration:
            return (whole,)
        numbers = range(1, (self.iterations or 0) + 1)
        return tuple(replace(whole, name=f"{self.name}_{n}", base=self.name) for n in numbers)

    def iterates(self, count: int | None, span: Span, taken: Collection[str], report: Report) -> None:
        """Note that a step of `count` iterations uses it, None where the step has none."""
        note = [(self.span, "it is declared here")]
        if count is None:
            hint = "proximal steps have iterations: steps 3 of eta"
            report.error(f'"{self.name}" is learned per iteration, and this step has none', span, hint, note)
        elif self.iterations not in (None, count):
            message = f'"{self.name}" is learned for {self.iterations} iterations, and this step has {count}'
            report.error(message, span, "declare one for each step", note)
        else:
            self.iterations = count
            clash = next((f"{self.name}_{n}" for n in range(1, count + 1) if f"{self.name}_{n}" in taken), None)
            if clash:
                message = f'"{clash}" has a meaning already, and would be one of "{self.name}" per iteration'
                report.error(message, span, "choose another name", note)

    def belongs_to(self, family: str | None, span: Span, report: Report) -> None:
        """Note that it is used with an energy over a family, which gives `per head` its meaning."""
        if family is None:
            hint = "a scalar per head goes with an energy over one family of matrices, such as U: K of d x p"
            report.error(
                f'"{self.name}" is learned per head, and there are no heads here', span, hint, [(self.span, "here")]
            )
        elif self.family not in (None, family):
            message = f'"{self.name}" is learned per head over {self.family} and used over {family}'
            report.error(message, span, "declare one for each", [(self.span, "it is declared here")])
        else:
            self.family = family


def declare_learned(
    groups: list[syntax.Learns], taken: Mapping[str, Span], scope: Scope, report: Report
) -> dict[str, Learned]:
    """The learned scalars of a file or a block, complaining about names that have a meaning already."""
    found: dict[str, Learned] = {}
    for learn in (learn for group in groups for learn in group.learns):
        place = within(learn.span, learn.name)
        first = found[learn.name].span if learn.name in found else taken.get(learn.name)
        if not may_be_declared(learn.name, place, first, report):
            continue
        try:
            found[learn.name] = _learned(learn, place, scope)
        except CrateError as error:
            report.absorb(*error.diagnostics)
            found[learn.name] = _broken(learn, place)
        except Broken:
            found[learn.name] = _broken(learn, place)
    return found


def _broken(learn: syntax.Learn, place: Span) -> Learned:
    """One whose value has been complained about."""
    return Learned(learn.name, Fraction(1), None, learn.per_head, place, per_iteration=learn.per_iteration)


def _learned(learn: syntax.Learn, place: Span, scope: Scope) -> Learned:
    value, origin = scope.replaced.get(learn.name, (learn.start, learn.start.span))
    start = value if isinstance(value, Fraction) else evaluate(value, scope)
    lower = evaluate(learn.above, scope) if learn.above is not None else None
    if lower is not None and lower != 0:
        raise fail(
            f"a learned scalar is bounded by 0 or not at all, not by {shown(lower)}",
            learn.above.span,
            f'write "learn {learn.name} > 0 = ..."',
        )
    if lower is not None and start <= lower:
        raise fail(
            f'"{learn.name}" starts at {shown(start)}, which is not greater than 0',
            origin,
            "a start inside the bound is needed",
        )
    return Learned(learn.name, start, lower, learn.per_head, place, per_iteration=learn.per_iteration)
