"""Statements that compute and keep what is made of weights: vectors as such, families stacked, as learned ones are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from crate_dsl.language.model import ONE
from crate_dsl.operators.build import ENTRYWISE
from crate_dsl.operators.graph import IDENTITY, Operator, Type, coefficient_family
from crate_dsl.pytorch.body import Body
from crate_dsl.pytorch.expressions import ATOM, POWER, PRODUCT, Code
from crate_dsl.pytorch.spelling import SPELLINGS

Layout = Callable[[int], Code | None]


class _Speaker:
    """The body, with values in another layout, in which operations entry by entry look the same."""

    def __init__(self, body: Body, layout: Layout) -> None:
        self._body, self._layout = body, layout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def code(self, number: int, flipped: bool, wide: Type | None = None) -> Code:
        return self._layout(number)


class FoldBody(Body):
    """The body of `fold`: every output of the graph is kept in an attribute."""

    def stored(self, attributes: Mapping[str, str]) -> list[str]:
        for name, number in self._graph.outputs:
            code = self._kept(number)
            self._write(f"self.{attributes[name]} = {code.text}", level=code.level)
        return self._lines

    def code(self, number: int, flipped: bool, wide: Type | None = None) -> Code:
        """A vector that stands as a column is no row turned."""
        code = super().code(number, flipped, wide)
        return replace(code, text=code.text.replace(".unsqueeze(0).T", ".unsqueeze(1)"))

    def _wants_name(self, number: int) -> bool:
        kept = any(number == n for _, n in self._graph.outputs) and not self._graph.users(number)
        return not kept and super()._wants_name(number)

    def _kept(self, number: int) -> Code:
        """A value as it is stored."""
        kind = self._graph[number].type
        if kind.is_scalar:
            return self.code(number, False)
        if kind.cols == ONE:
            return self._vector(number) or self._flattened(number, ".flatten(0, 1)" if kind.family else ".squeeze(0)")
        if kind.family:
            return self._stacked(number) or self._flattened(number, ".flatten(0, 1)")
        return self.code(number, False)

    def _flattened(self, number: int, how: str) -> Code:
        return Code(f"{self.code(number, True).at(ATOM)}{how}")

    # ---- vectors: (rows,), and (family, rows) ---------------------------------------------------------------------

    def _vector(self, number: int) -> Code | None:
        operator = self._graph[number]
        if operator.type.cols != ONE or operator.type.is_scalar:
            return None
        if operator.kind == "parameter":
            return Code(f"self.{self._owner.attributes[operator.attributes[0]]}")
        if operator.kind == "ones":
            return Code(f"{self.reference()}.new_ones({self.size(operator.type.rows)})")
        if operator.kind == "product" and len(operator.inputs) == 2:
            return self._applied(*operator.inputs)
        return self._entrywise(operator, self._vector)

    def _applied(self, matrix: int, vector: int) -> Code | None:
        """A matrix, or a family of them, times a vector."""
        value, operator = self._vector(vector), self._graph[matrix]
        if value is None or self._graph[vector].type.family:
            return None
        if operator.type.family and (stacked := self._stacked(matrix, turned=True)):
            parts = f".unflatten(0, ({self.size(operator.type.family)}, -1))"
            return Code(f"({stacked.at(PRODUCT)} @ {value.at(POWER)}){parts}")
        return Code(f"{self.code(matrix, False).at(PRODUCT)} @ {value.at(POWER)}", PRODUCT)

    # ---- families of matrices: their transposes stacked, (family * cols, rows) ------------------------------------

    def _stacked(self, number: int, turned: bool = False) -> Code | None:
        """With `turned` the matrices themselves stacked, (family * rows, cols)."""
        operator = self._graph[number]
        if not operator.type.family or operator.type.cols == ONE:
            return None
        match operator.kind:
            case "parameter":
                plain = not turned and operator.attributes[1:] != (IDENTITY,)
                return Code(f"self.{self._owner.attributes[operator.attributes[0]]}") if plain else None
            case "transpose":
                return self._stacked(operator.inputs[0], not turned)
            case "broadcast" if (operator.attributes[0] == "columns") == turned:
                scale, value = self._vector(operator.inputs[0]), self._stacked(operator.inputs[1], turned)
                if scale is None or value is None or self._graph[operator.inputs[0]].type.family:
                    return None
                return Code(f"{value.at(PRODUCT)} * {scale.at(POWER)}", PRODUCT)
            case "combine":
                return self._entrywise(operator, lambda n: self._stacked(n, turned))
        return None

    def _entrywise(self, operator: Operator, layout: Layout) -> Code | None:
        """An operator that acts on entries, in any layout that all of its inputs can have."""
        kind, name = operator.kind, operator.attributes[0] if operator.attributes else None
        if kind not in ("combine", "fill", "broadcast") and not (kind == "function" and name in ENTRYWISE):
            return None
        if kind == "combine" and any(coefficient_family(c) for c in operator.attributes[0]):
            return None
        if kind == "combine" and operator.type.cols != ONE and len({self._graph[n].type for n in operator.inputs}) > 1:
            return None
        inputs = [n for n in operator.inputs if self._graph[n].kind != "ones"]
        if any(layout(n) is None for n in inputs):
            return None
        code = SPELLINGS[kind].write(operator, _Speaker(self, layout))
        return Code(code.text, code.level)
