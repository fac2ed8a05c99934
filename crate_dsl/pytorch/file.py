"""What all parts of a written file share: its names, its constants, and the helpers that they ask for."""

from __future__ import annotations

from dataclasses import dataclass

from crate_dsl.language.model import Model
from crate_dsl.pytorch.names import Constants, Names


@dataclass(frozen=True)
class File:
    """What all parts of a written file share."""

    model: Model
    names: Names
    constants: Constants
    helpers: set[str]
    gpu: bool = False  # with kernels of Triton, where they are faster

    @property
    def d(self) -> str:
        """The written name of the number of features of a token."""
        return self.constants.size(self.model.tokens.rows)

    def counted(self, axis: str, value: str, always: bool = False) -> dict[str, str]:
        """The tokens' axis with their number in a value, where it may be another one than declared: not in images."""
        return {axis: f"{value}.shape[1]"} if always or self.model.input.name != "image" else {}
