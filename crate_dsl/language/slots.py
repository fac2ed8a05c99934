"""What can be varied in a spec: places of its text that may hold other words, found in the syntax tree.

A slot finds its place anew in every text, by the block's role and the number of the step, so that several can be
edited one after the other.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from crate_dsl.language import syntax
from crate_dsl.language.edits import Edit, removed, replaced
from crate_dsl.language.layout import VERBS
from crate_dsl.language.report import within

ABSENT = "none"
BINDS = re.compile(r"^\w+\s*=\s*")
Place = syntax.Binding | syntax.Expression  # of a number


@dataclass(frozen=True)
class Address:
    """A step: the role of its block, its number there, and its label."""

    role: str
    number: int
    label: str

    def __str__(self) -> str:
        return f"{self.role}.{self.label}"

    def block(self, spec: syntax.Spec) -> syntax.BlockDeclaration:
        return next(block for block in spec.all(syntax.BlockDeclaration) if block.role == self.role)

    def find(self, spec: syntax.Spec) -> syntax.StepStatement:
        return self.block(spec).all(syntax.StepStatement)[self.number]


@dataclass(frozen=True)
class Slot(ABC):
    """One thing that can be varied at one place; `step` is None where it belongs to no step.

    `needs_place` says that leaving the step out never means several steps at once.
    """

    what: str  # as in --vary what=...: "gram", "steps", "d", "init.U"
    step: Address | None

    needs_place = False

    @abstractmethod
    def now(self, spec: syntax.Spec) -> str | None:
        """What stands there, None where nothing does."""

    @abstractmethod
    def usage(self) -> str:
        """What may stand there, for people."""

    def choices(self, spec: syntax.Spec) -> frozenset[str] | None:
        """The words of which one must begin a value, None where anything may."""
        return None

    @abstractmethod
    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        """What turns the spec's text into the variant's."""

    @property
    def trial(self) -> str | None:
        """A value to find out whether a step can take an option that it does not have; None: it is not asked."""
        return None

    @property
    def key(self) -> str:
        """The full name, which is never ambiguous."""
        return f"{self.step}.{self.what}" if self.step else self.what


# ---- numbers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NumberSlot(Slot):
    """A size, a real or the start of a learned scalar: in the preset in force, or else where it is declared."""

    preset: str | None
    kind: str  # size, real, start value

    def now(self, spec: syntax.Spec) -> str | None:
        place = self._binding(spec) or self._declared(spec)[0]
        return BINDS.sub("", place.span.text) if isinstance(place, syntax.Binding) else place.span.text

    def usage(self) -> str:
        return f"a {self.kind}"

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        preset = self._preset(spec)
        if preset is None:
            return [self._assign(place, value) for place in self._declared(spec)]
        if binding := self._binding(spec):
            return [self._assign(binding, value)]
        if preset.bindings:
            end = preset.bindings[-1].span.end
            return [Edit(end, end, f", {self.what} = {value}")]
        brace = preset.span.text.index("{") + preset.span.start + 1
        return [Edit(brace, brace, f" {self.what} = {value} ")]

    def _assign(self, place: Place, value: str) -> Edit:
        new = f"{self.what} = {value}" if isinstance(place, syntax.Binding) else value
        return Edit(place.span.start, place.span.end, new)

    def _preset(self, spec: syntax.Spec) -> syntax.Preset | None:
        return next((preset for preset in spec.all(syntax.Preset) if preset.name == self.preset), None)

    def _binding(self, spec: syntax.Spec) -> syntax.Binding | None:
        preset = self._preset(spec)
        return next((b for b in preset.bindings if b.name == self.what), None) if preset else None

    def _declared(self, spec: syntax.Spec) -> list[Place]:
        """One binding of a size or real; the start values of a learned scalar, which each block may declare."""
        return [place for _, name, place in declarations(spec) if name == self.what]


def declarations(spec: syntax.Spec) -> Iterator[tuple[str, str, Place]]:
    """Kind, name and place of every declared number, in the order of the file."""
    for item in spec.items:
        if isinstance(item, syntax.Sizes | syntax.Reals):
            kind = "size" if isinstance(item, syntax.Sizes) else "real"
            yield from ((kind, binding.name, binding) for binding in item.bindings)
        lines = item.body if isinstance(item, syntax.BlockDeclaration) else (item,)
        for learn in (learn for line in lines if isinstance(line, syntax.Learns) for learn in line.learns):
            yield "start value", learn.name, learn.start


def number_slots(spec: syntax.Spec, preset: str | None) -> dict[str, Slot]:
    return {name: NumberSlot(name, None, preset, kind) for kind, name, _ in declarations(spec)}


# ---- lines around the blocks ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LineSlot(Slot):
    """A line that a file has at most once; what follows its word is replaced. A loss may be added and taken away."""

    node: type[syntax.Item]
    shown: str  # of what may stand there

    def now(self, spec: syntax.Spec) -> str | None:
        line = self._line(spec)
        return line.span.text[len(self.what) :].strip() if line else None

    def usage(self) -> str:
        return self.shown

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        line = self._line(spec)
        if value == ABSENT:
            return [removed(line.span)] if line else []
        if line is None:
            end = spec.source.end.start
            return [Edit(end, end, f"\n{self.what} {value}")]
        if isinstance(line, syntax.MaskLine) and "before" not in value:
            value = f"{value} before {line.before}"
        head = re.match(r"\w+\s+", line.span.text).group()
        return [replaced(line.span, head + value)]

    def _line(self, spec: syntax.Spec) -> syntax.Item | None:
        return next(iter(spec.all(self.node)), None)


def line_slots(spec: syntax.Spec) -> list[Slot]:
    """Head, mask and loss; the loss also where there is none."""
    slots = [
        LineSlot("mask", None, syntax.MaskLine, "random(0.5)"),
        LineSlot("head", None, syntax.HeadLine, "classify(classes) of mean, for instance"),
        LineSlot("loss", None, syntax.LossLine, "cross_entropy + 0.01 * rate(Z, U), for instance, none"),
    ]
    return [slot for slot in slots if slot.what == "loss" or slot.now(spec) is not None]


# ---- the step itself -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EnergySlot(Slot):
    """The energy that a step optimises; a bare name keeps the arguments, where it takes as many."""

    energies: Mapping[str, syntax.EnergyDeclaration]
    taken: int  # arguments of the energy that stands there

    needs_place = True

    def now(self, spec: syntax.Spec) -> str | None:
        return self.step.find(spec).use.span.text

    def usage(self) -> str:
        return ", ".join(name if self.fits(name) else called(energy) for name, energy in self.energies.items())

    def fits(self, name: str) -> bool:
        """Whether another energy takes as many arguments."""
        energy = self.energies[name]
        return len(energy.variables) + len(energy.given) == self.taken

    def choices(self, spec: syntax.Spec) -> frozenset[str]:
        return frozenset(self.energies)

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        use = self.step.find(spec).use
        place = use.span if "(" in value else within(use.span, use.name)
        return [Edit(place.start, place.end, value)]


def called(energy: syntax.EnergyDeclaration) -> str:
    """`elastic_net(A | X, D, lambda, mu)`: an energy with its own names of what it takes."""
    variables, given = (", ".join(each.name for each in group) for group in (energy.variables, energy.given))
    return f"{energy.name}({variables}{' | ' * bool(variables and given)}{given})"


OF_ENERGIES = frozenset(verb.lower() for verb in VERBS) - {"project"}  # a projection names a constraint, not an energy


@dataclass(frozen=True)
class VerbSlot(Slot):
    """What a step does with its energy."""

    needs_place = True

    def now(self, spec: syntax.Spec) -> str | None:
        return self.step.find(spec).verb

    def usage(self) -> str:
        return ", ".join(sorted(OF_ENERGIES))

    def choices(self, spec: syntax.Spec) -> frozenset[str]:
        return OF_ENERGIES

    def edits(self, spec: syntax.Spec, value: str) -> list[Edit]:
        statement = self.step.find(spec)
        start = statement.span.start
        return [Edit(start, start + len(statement.verb), value)]
