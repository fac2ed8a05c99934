"""Arithmetic of scalars: on symbols, refused where the sizes and reals in force make no sensible real number of it.

Learned scalars and held numbers have no fixed value, so of what they are part of only their signs are known. The number
of tokens has many values in a causal step: that of every prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import sympy

from crate_dsl.errors import CrateError, Span, fail
from crate_dsl.language.report import shown
from crate_dsl.language.sizes import MAX_BITS, MAX_MAGNITUDE, SENSIBLE
from crate_dsl.language.syntax import MAX_EXPONENT

SHORT = 32  # prefixes that are tried; 1 / (N - 1) has no value for the first, log(log(N)) neither


@dataclass(frozen=True)
class Numbers:
    """The sizes and reals in force, by name; `counted` names the number of tokens where it grows from 1 on."""

    values: Mapping[str, sympy.Rational]
    counted: str = ""
    is_prefix: bool = False

    def of(self, value: sympy.Expr) -> sympy.Expr:
        """The value with them in force."""
        return value.xreplace({s: self.values[s.name] for s in value.free_symbols if s.name in self.values})

    def settings(self, *values: sympy.Expr) -> Iterator[Numbers]:
        """These numbers, and those of short prefixes where what is computed depends on them."""
        yield self
        if self.counted and any(s.name == self.counted for value in values for s in value.free_symbols):
            for count in range(1, min(SHORT, self.values[self.counted]) + 1):
                yield replace(self, values={**self.values, self.counted: sympy.Integer(count)}, is_prefix=True)

    @property
    def why(self) -> str:
        tokens = self.counted
        return f"in a causal step {tokens} counts the tokens so far, from 1 on; 1/{tokens} has a value for all of them"


FUNCTIONS = {
    "exp": sympy.exp,
    "log": sympy.log,
    "log1p": lambda value: sympy.log(1 + value),
    "reciprocal": lambda value: 1 / value,
    "sqrt": sympy.sqrt,
}


def combined(operator: str, left: sympy.Expr, right: sympy.Expr, numbers: Numbers, span: Span | None) -> sympy.Expr:
    """The value of `left operator right`, one of + - * / ^.

    Raises:
        CrateError: where it is no finite real number, or none of reasonable size.
    """
    match operator:
        case "+":
            value = left + right
        case "-":
            value = left - right
        case "*":
            value = left * right
        case "/":
            for known in numbers.settings(right):
                _check_divisor(right, known, span)
            value = left / right
        case _:
            for known in numbers.settings(left, right):
                _check_power(left, right, known, span)
            value = left**right
    return _sensible(value, numbers, span)


def applied(name: str, value: sympy.Expr, numbers: Numbers, span: Span | None) -> sympy.Expr:
    """The value of a function of one number.

    Raises:
        CrateError: where it is no finite real number, or none of reasonable size.
    """
    for known in numbers.settings(value):
        _check_domain(name, value, known, span)
    return _sensible(FUNCTIONS[name](value), numbers, span)


def _check_domain(name: str, value: sympy.Expr, numbers: Numbers, span: Span | None) -> None:
    known = numbers.of(value)
    if name == "reciprocal":
        _check_divisor(value, numbers, span)
    if name == "sqrt" and known.is_negative:
        raise _refused("the square root of a negative number is no real number", value, numbers, span)
    if name == "log" and known.is_nonpositive or name == "log1p" and (known + 1).is_nonpositive:
        least = "0" if name == "log" else "-1"
        raise _refused(f"{name} is defined for numbers greater than {least}", value, numbers, span)


def _check_divisor(divisor: sympy.Expr, numbers: Numbers, span: Span | None) -> None:
    if numbers.of(divisor).is_zero:
        raise _refused("division by zero", divisor, numbers, span)


def _check_power(base: sympy.Expr, exponent: sympy.Expr, numbers: Numbers, span: Span | None) -> None:
    known, power = numbers.of(base), numbers.of(exponent)
    if power.is_number and abs(power) > MAX_EXPONENT:
        hint = f"exponents go from -{MAX_EXPONENT} to {MAX_EXPONENT}"
        raise _refused("this power is not a number of reasonable size", exponent, numbers, span, hint)
    if power.is_negative:
        _check_divisor(base, numbers, span)
    if known.is_negative and power.is_integer is False:
        raise _refused("this power of a negative number is no real number", base, numbers, span)


def _sensible(value: sympy.Expr, numbers: Numbers, span: Span | None) -> sympy.Expr:
    for setting in numbers.settings(value):
        known = setting.of(value)
        if known.is_Rational and max(known.p.bit_length(), known.q.bit_length()) > MAX_BITS:
            raise fail("this number is absurdly long", span, SENSIBLE)
        if known.is_number and not known.is_zero and not 1 / MAX_MAGNITUDE <= abs(known) <= MAX_MAGNITUDE:
            raise _refused("this number is not of reasonable size", value, setting, span, SENSIBLE)
    return value


def _refused(message: str, value: sympy.Expr, numbers: Numbers, span: Span | None, hint: str = "") -> CrateError:
    """The error, with the sizes and reals that it comes from."""
    names = sorted(s.name for s in value.free_symbols if s.name in numbers.values)
    became = ", ".join(f"{name} = {shown(numbers.values[name])}" for name in names)
    hint = "; ".join(filter(None, (f"with {became}" if became else "", hint)))
    return fail(message, span, f"{hint}\n{numbers.why}" if numbers.is_prefix else hint)
