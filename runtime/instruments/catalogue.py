"""All instruments in the order of the report. To add one, write its module and list it here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime.errors import Inapplicable
from runtime.instruments import attention, dictionaries, energies, overview, prediction, rates, reconstruction, tokens
from runtime.instruments.section import Section
from runtime.instruments.subject import Subject


@dataclass(frozen=True)
class Instrument:
    """`measured` may raise Inapplicable."""

    name: str
    title: str
    measured: Callable[[Subject], Section]

    def of(self, subject: Subject) -> Section:
        """What it measures, or a section that says why there is nothing to measure."""
        try:
            return self.measured(subject)
        except Inapplicable as reason:
            return Section(self.name, self.title, absent=str(reason))


MODULES = (overview, energies, rates, dictionaries, tokens, attention, reconstruction, prediction)
INSTRUMENTS: Mapping[str, Instrument] = {
    module.NAME: Instrument(module.NAME, module.TITLE, module.measured) for module in MODULES
}
