"""Names in the written file: one per object, valid in Python, never shadowing what the file needs."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Mapping

from crate_dsl.language.model import Block, Model
from crate_dsl.pytorch.helpers import DEFINED

AMBIGUOUS = {"l", "O", "I"}  # letters that linters reject, for they look like digits
USED = {"torch", "nn", "F", "Tensor", "self", "super", "math", "checkpoint", "triton", "tl"}
RESERVED = AMBIGUOUS | USED | DEFINED | set(keyword.kwlist) | set(keyword.softkwlist) | set(dir(builtins))


def mangle(name: str, taken: Iterable[str] = ()) -> str:
    """A valid Python name as close to the given one as possible.

    >>> mangle("lambda"), mangle("A^1"), mangle("d", {"d"})
    ('lambda_', 'A_1', 'd_')
    """
    result = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "value"
    result = f"_{result}" if result[0].isdigit() else result
    while result in RESERVED or result in taken:
        result += "_"
    return result


class Names:
    """A scope of names; an inner scope sees, and never shadows, those of its outer one."""

    def __init__(self, outer: Names | None = None) -> None:
        self._outer = outer
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._taken or (self._outer is not None and name in self._outer)

    def new(self, wanted: str) -> str:
        """A name that is free here; with a number behind it where the wanted one is taken."""
        base = mangle(wanted)
        name, number = base, 1
        while name in self:
            number += 1
            name = f"{base.rstrip('_')}{number}" if not base[-1].isdigit() else f"{base}_{number}"
        self._taken.add(name)
        return name


class Constants:
    """The module-level constants: sizes and reals of the spec, each written only where the file uses it."""

    def __init__(self, model: Model, blocks: Iterable[Block], names: Names) -> None:
        self._model = model
        self._top: Mapping[str, int] = {**model.sizes, model.tokens.cols: model.tokens.count}
        self._used: set[str] = set()
        self._texts: dict[str, tuple[str, str]] = {}  # key: (name in the file, value)
        # All names are taken at once, so that no local one can shadow a constant that is asked for later.
        for name, value in self._top.items():
            self._texts[name] = (names.new(name), str(value))
        for name, real in model.reals.items():
            self._texts[name] = (names.new(name), repr(float(real)))
        for block in blocks:
            for name, value in block.sizes.items():
                if value != self._top.get(name, value):
                    self._texts[f"{name}_{block.role}"] = (names.new(f"{name}_{block.role}"), str(value))

    @property
    def lines(self) -> list[str]:
        return [f"{name} = {value}" for key, (name, value) in self._texts.items() if key in self._used]

    def size(self, axis: str, block: Block | None = None) -> str:
        """The name of a size in force in a block (at the top without one); a number stands for itself."""
        if axis.isdigit():
            return axis
        own = f"{axis}_{block.role}" if block else axis
        return self._text(own if own in self._texts else axis)

    def number(self, name: str, block: Block | None = None) -> str:
        """A size or a real, whichever has this name."""
        return self._text(name) if name in self._model.reals else self.size(name, block)

    def _text(self, key: str) -> str:
        self._used.add(key)
        return self._texts[key][0]
