"""Variants of a spec: edits of its text, each a spec of its own that the user can keep.

>>> import crate_dsl
>>> text = open("specs/crate.crate").read()                                 # doctest: +SKIP
>>> crate_dsl.vary(text, {"gram": "none", "adjoint": "tied"}).text          # doctest: +SKIP
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from crate_dsl.compiler import Compilation
from crate_dsl.errors import CrateError, Source, Span, fail, known
from crate_dsl.language import syntax
from crate_dsl.language.check import check
from crate_dsl.language.edits import edited
from crate_dsl.language.include import with_included
from crate_dsl.language.model import Block, Model, Step
from crate_dsl.language.option_slots import AllSitesSlot, InitSlot, SiteSlot, step_slots
from crate_dsl.language.parse import parse
from crate_dsl.language.slots import ABSENT, Address, EnergySlot, NumberSlot, Slot, VerbSlot, line_slots, number_slots
from crate_dsl.library.vocabulary import VOCABULARY

FOREIGN = re.compile(r"[#;{}~=\"\n]")  # what no value may hold, so that it stays within its place
VARY = "--vary"


@dataclass(frozen=True)
class Choice:
    """One thing that can be varied: its shortest name, the step that it belongs to, what stands there and what may."""

    name: str
    step: str
    now: str | None
    usage: str


@dataclass(frozen=True)
class Variant:
    """A changed spec. `numbers` are the sizes, reals and start values that its text now states."""

    label: str
    source: Source
    numbers: frozenset[str]

    @property
    def text(self) -> str:
        return self.source.text


def vary(text: str, changes: Mapping[str, str], preset: str | None = None) -> Variant:
    """The text of a spec with some things changed, for instance `{"gram": "none", "compress.norm": "none", "d": "96"}`.

    The result is not compiled: a combination that makes no sense says so when it is. Numbers are changed in the preset
    where one is given, else where they are declared.

    Raises:
        CrateError: where the spec is not sound, or offers no such thing to vary, with what it offers.
    """
    return Variations(Source("spec", text), preset).variant(changes)


def choices(text: str, preset: str | None = None) -> tuple[Choice, ...]:
    """Everything that can be varied in a spec, in the order of its text.

    Raises:
        CrateError: where the spec is not sound.
    """
    return Variations(Source("spec", text), preset).choices


class Variations:
    """The variants of one spec, which is read once.

    Raises:
        CrateError: where the spec is not sound.
    """

    def __init__(self, source: Source, preset: str | None = None) -> None:
        self.source, self.preset = source, preset
        self.spec = parse(source)
        self.model = check(self.spec, VOCABULARY, preset)
        self.steps = dict(_steps(self.model))

    @cached_property
    def slots(self) -> list[Slot]:
        slots = [slot for slot in _slots(self.spec, self.model, self.preset) if self._offered(slot)]
        return sorted(slots, key=lambda slot: slot.step is not None)

    @property
    def choices(self) -> tuple[Choice, ...]:
        return tuple(
            Choice(self._shortest(slot), str(slot.step or ""), slot.now(self.spec), slot.usage())
            for slot in self.slots
            if self._exists(slot)
        )

    def variant(self, changes: Mapping[str, str]) -> Variant:
        """One variant.

        Raises:
            CrateError: where something cannot be varied, or not to this.
        """
        resolved = [(slot, change) for change in changes.items() for slot in self.resolve(*change)]
        spec = self.spec
        for slot, (key, value) in sorted(resolved, key=lambda pair: _rank(pair[0])):
            spec = self._changed(spec, slot, key, value)
        label = " ".join(f"{key}={value}" for key, value in changes.items())
        numbers = frozenset(slot.what for slot, _ in resolved if isinstance(slot, NumberSlot))
        return Variant(label or "as written", replace(self.source, text=spec.source.text), numbers)

    def _changed(self, spec: syntax.Spec, slot: Slot, key: str, value: str) -> syntax.Spec:
        text = edited(spec.source.text, slot.edits(spec, value))
        try:
            return parse(replace(self.source, text=text))
        except CrateError as error:
            reason = error.diagnostics[0].message
            raise fail(f'"{value}" cannot stand for {slot.key}: {reason}', *_place(key, value)) from None

    # ---- names -------------------------------------------------------------------------------------------------------

    def resolve(self, key: str, value: str | None = None) -> list[Slot]:
        """The slots that a name such as `gram` or `encoder.compress.norm` means: all that have it, else the only one
        that could.

        Raises:
            CrateError: with what this spec offers, or with the names between which the user must choose.
        """
        found = self._named(key)
        if not found:
            raise fail(f'there is no "{key}" to be varied', *_place(key, value, self._hint(key)))
        present = [slot for slot in found if slot.now(self.spec) is not None]
        several = {type(slot) is NumberSlot for slot in found} == {True, False}
        meant = found if several or any(slot.needs_place for slot in found) else present or found
        if len(meant) > 1 and (several or not present or any(slot.needs_place for slot in meant)):
            names = ", ".join(self._shortest(slot) for slot in meant)
            raise fail(f'"{key}" could be several things', *_place(key, value, f"name one of them: {names}"))
        if value is not None:
            _check_value(meant[0], self.spec, key, value)
        return meant

    def _named(self, key: str) -> list[Slot]:
        """`what`, `step.what`, `block.what` or `block.step.what`."""
        prefixes, what = [], key.strip()
        names = {name for address in self.steps for name in (address.role, address.label)}
        while "." in what and what.split(".")[0] in names:
            prefix, _, what = what.partition(".")
            prefixes.append(prefix)
        return [slot for slot in self.slots if slot.what == what and _within(slot.step, prefixes)]

    def _shortest(self, slot: Slot) -> str:
        names = [slot.what, f"{slot.step.label}.{slot.what}"] if slot.step else []
        return next((name for name in names if self._named(name) == [slot]), slot.key)

    def _hint(self, key: str) -> str:
        role = key.split(".")[0]
        if any(block.role == role and block.inverse_of for block in self.model.blocks):
            return f"the {role} is derived as an inverse: what is varied in the encoder is inverted with it"
        existing = dict.fromkeys(self._shortest(slot) for slot in self.slots if self._exists(slot))
        return known("things to vary", key, existing)

    def _offered(self, slot: Slot) -> bool:
        """What stands there can be varied; what does not, where it could stand."""
        if slot.step is None or isinstance(slot, InitSlot) or slot.now(self.spec) is not None:
            return True
        if isinstance(slot, SiteSlot):
            return self.steps[slot.step].unknown is None
        return slot.trial is not None and self._sound(slot, slot.trial)

    def _exists(self, slot: Slot) -> bool:
        """Whether the step, as it is derived now, has the site; what another change brings can be varied with that."""
        if not isinstance(slot, SiteSlot) or slot.now(self.spec) is not None:
            return True
        return any(self._derives(slot, value) for value in slot.trials)

    def _derives(self, slot: Slot, value: str) -> bool:
        try:
            spec = self._changed(self.spec, slot, slot.key, value)
            return bool(Compilation(spec.source, self.preset, {}).derivation)
        except CrateError:
            return False

    def _sound(self, slot: Slot, value: str) -> bool:
        try:
            check(self._changed(self.spec, slot, slot.key, value), VOCABULARY, self.preset)
        except CrateError:
            return False
        return True


def _steps(model: Model) -> Iterable[tuple[Address, Step]]:
    """The steps that are written in the file; those of a derived block are not."""
    for block in model.blocks:
        if not block.inverse_of:
            yield from ((Address(block.role, n, step.label), step) for n, step in enumerate(block.steps))


def _slots(spec: syntax.Spec, model: Model, preset: str | None) -> Iterable[Slot]:
    yield from number_slots(spec, preset).values()
    yield from line_slots(spec)
    included = with_included(spec, VOCABULARY.energies).included
    energies: dict[str, syntax.EnergyDeclaration] = {}
    for energy in (*spec.all(syntax.EnergyDeclaration), *included):
        energies.setdefault(energy.name, energy)
    for line in spec.all(syntax.InitLine):
        yield _init_slot(None, line.name)
    for block in (block for block in model.blocks if not block.inverse_of):
        addresses = [Address(block.role, n, step.label) for n, step in enumerate(block.steps)]
        for address, step in zip(addresses, block.steps, strict=True):
            if step.verb == "project":
                continue
            yield VerbSlot("verb", address)
            use = address.find(spec).use
            yield EnergySlot("by", address, energies, len(use.variables) + len(use.given))
            yield from step_slots(address.find(spec), address, VOCABULARY)
        yield from _block_inits(block, addresses, spec)


def _block_inits(block: Block, addresses: list[Address], spec: syntax.Spec) -> Iterable[Slot]:
    """One slot for every learned matrix, in the first step that reads it; a declared one cannot do without."""
    declared = {matrix.name for group in addresses[0].block(spec).all(syntax.Learns) for matrix in group.matrices}
    for parameter in block.parameters:
        uses = (
            a for a, s in zip(addresses, block.steps, strict=True) if parameter.name in (*s.actuals.values(), s.read)
        )
        absent = () if parameter.name in declared else (ABSENT,)
        yield _init_slot(next(uses, addresses[0]), parameter.name, absent)


def _init_slot(step: Address | None, name: str, absent: tuple[str, ...] = (ABSENT,)) -> InitSlot:
    usages = tuple(signature.usage.split(":")[0] for signature in VOCABULARY.inits.values())
    return InitSlot(f"init.{name}", step, (*usages, *absent), True, name)


def _rank(slot: Slot) -> int:
    """All sites of a step before single ones; the step itself last, since its label depends on it."""
    if isinstance(slot, AllSitesSlot):
        return 0
    return 2 if isinstance(slot, EnergySlot | VerbSlot) else 1


def _within(step: Address | None, prefixes: list[str]) -> bool:
    return all(step is not None and prefix in (step.role, step.label) for prefix in prefixes)


def _check_value(slot: Slot, spec: syntax.Spec, key: str, value: str) -> None:
    if not value or FOREIGN.search(value):
        hint = f"may be varied to: {slot.usage()}"
        raise fail(f'"{value}" cannot stand for {slot.key}', *_place(key, value, hint))
    allowed, word = slot.choices(spec), value.split("(")[0].strip()
    if allowed is not None and word not in allowed:
        hint = known(f"values of {slot.what}", word, allowed)
        raise fail(f'"{value}" cannot stand for {slot.key}', *_place(key, value, hint))


def _place(key: str, value: str | None, hint: str = "") -> tuple[Span | None, str]:
    """Where the user wrote it, and the hint."""
    text = key if value is None else f"{key}={value}"
    return Span(Source(VARY, text), 0, len(key)), hint
