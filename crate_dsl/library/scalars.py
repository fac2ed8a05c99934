"""Scalar symbols, made in one place: sympy symbols of one name but different assumptions are not equal, silently."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import sympy


def scalar(name: str, *, sign: str = "real", index: str | None = None) -> sympy.Symbol:
    """The symbol of a real or a learned scalar; `index` makes it a member of a family (`kappa[k]`).

    `sign` is the sympy assumption that holds for it: "positive", "negative", "zero" or "real".
    """
    return sympy.Symbol(f"{name}[{index}]" if index else name, **{sign: True})


def base_name(symbol: sympy.Symbol) -> str:
    """The name of a scalar without the index of a member: that of `kappa[k]` is `kappa`."""
    return symbol.name.partition("[")[0]


def sign_of(value: Fraction) -> str:
    return "positive" if value > 0 else "negative" if value < 0 else "zero"


@cache
def tidy(value: sympy.Expr) -> sympy.Expr:
    """A coefficient multiplied out; what stands above and below a fraction bar alike is cancelled.

    >>> n, m = sympy.symbols("n m")
    >>> tidy((n + 1) / (m * (n + 1)))
    1/m
    """
    value = sympy.expand(value)
    if any(power.exp.is_negative and power.base.is_Add for power in value.atoms(sympy.Pow)):
        shorter = sympy.cancel(value)
        return shorter if shorter.count_ops() < value.count_ops() else value
    return value


def size(axis: str) -> sympy.Expr:
    """The symbol of a size, or the number that the axis spells."""
    return sympy.Integer(int(axis)) if axis.isdigit() else sympy.Symbol(axis, positive=True, integer=True)


@cache
def scalar_indices(value: sympy.Expr) -> frozenset[str]:
    """The family indices of the scalars in a coefficient: `kappa[k]` holds `k`."""
    names = (symbol.name for symbol in value.free_symbols)
    return frozenset(name[name.index("[") + 1 : -1] for name in names if "[" in name)


def rename_index(value: sympy.Expr, old: str, new: str) -> sympy.Expr:
    """Replace the index of every member of a family."""
    members = [symbol for symbol in value.free_symbols if symbol.name.endswith(f"[{old}]")]
    renamed = {s: sympy.Symbol(s.name.replace(f"[{old}]", f"[{new}]"), **s.assumptions0) for s in members}
    return value.xreplace(renamed)
