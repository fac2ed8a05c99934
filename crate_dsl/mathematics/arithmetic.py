"""Arithmetic of scalars: on symbols, refused where the sizes and reals in force make no sensible real number of it.

Learned scalars and held numbers have no fixed value, so of what they are part of only their signs are known.
"""

from __future__ import annotations

from collections.abc import Mapping

import sympy

from crate_dsl.errors import CrateError, Span, fail
from crate_dsl.language.report import shown
from crate_dsl.language.sizes import MAX_BITS, MAX_MAGNITUDE, SENSIBLE
from crate_dsl.language.syntax import MAX_EXPONENT

Numbers = Mapping[str, sympy.Rational]  # the sizes and reals in force, by name

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
            _check_divisor(right, numbers, span)
            value = left / right
        case _:
            _check_power(left, right, numbers, span)
            value = left**right
    return _sensible(value, numbers, span)


def applied(name: str, value: sympy.Expr, numbers: Numbers, span: Span | None) -> sympy.Expr:
    """The value of a function of one number.

    Raises:
        CrateError: where it is no finite real number, or none of reasonable size.
    """
    known = in_force(value, numbers)
    if name == "reciprocal":
        _check_divisor(value, numbers, span)
    if name == "sqrt" and known.is_negative:
        raise _refused("the square root of a negative number is no real number", value, numbers, span)
    if name == "log" and known.is_nonpositive or name == "log1p" and (known + 1).is_nonpositive:
        least = "0" if name == "log" else "-1"
        raise _refused(f"{name} is defined for numbers greater than {least}", value, numbers, span)
    return _sensible(FUNCTIONS[name](value), numbers, span)


def _check_divisor(divisor: sympy.Expr, numbers: Numbers, span: Span | None) -> None:
    if in_force(divisor, numbers).is_zero:
        raise _refused("division by zero", divisor, numbers, span)


def _check_power(base: sympy.Expr, exponent: sympy.Expr, numbers: Numbers, span: Span | None) -> None:
    known, power = in_force(base, numbers), in_force(exponent, numbers)
    if power.is_number and abs(power) > MAX_EXPONENT:
        hint = f"exponents go from -{MAX_EXPONENT} to {MAX_EXPONENT}"
        raise _refused("this power is not a number of reasonable size", exponent, numbers, span, hint)
    if power.is_negative:
        _check_divisor(base, numbers, span)
    if known.is_negative and power.is_integer is False:
        raise _refused("this power of a negative number is no real number", base, numbers, span)


def _sensible(value: sympy.Expr, numbers: Numbers, span: Span | None) -> sympy.Expr:
    known = in_force(value, numbers)
    if known.is_Rational and max(known.p.bit_length(), known.q.bit_length()) > MAX_BITS:
        raise fail("this number is absurdly long", span, SENSIBLE)
    if known.is_number and not known.is_zero and not 1 / MAX_MAGNITUDE <= abs(known) <= MAX_MAGNITUDE:
        raise _refused("this number is not of reasonable size", value, numbers, span, SENSIBLE)
    return value


def in_force(value: sympy.Expr, numbers: Numbers) -> sympy.Expr:
    """The value at the sizes and reals in force."""
    return value.xreplace({s: numbers[s.name] for s in value.free_symbols if s.name in numbers})


def _refused(message: str, value: sympy.Expr, numbers: Numbers, span: Span | None, hint: str = "") -> CrateError:
    """The error, with the sizes and reals that it comes from."""
    names = sorted(s.name for s in value.free_symbols if s.name in numbers)
    became = ", ".join(f"{name} = {shown(numbers[name])}" for name in names)
    return fail(message, span, "; ".join(filter(None, (f"with {became}" if became else "", hint))))
