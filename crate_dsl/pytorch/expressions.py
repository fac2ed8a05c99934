"""Pieces of Python expressions, with how strongly they bind, and scalar coefficients as such."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy

from crate_dsl.errors import CompilerBug
from crate_dsl.pytorch.lines import indented

SUM, PRODUCT, UNARY, POWER, ATOM = range(5)


@dataclass(frozen=True)
class Code:
    """An expression; `flipped` says that it holds the transpose of the value that it stands for (tokens as rows).

    What stands for a symbol of a coefficient `is_tensor`, or else is a number of Python.
    """

    text: str
    level: int = ATOM
    flipped: bool = False
    is_tensor: bool = False

    def at(self, level: int) -> str:
        """The text, in brackets where it binds less strongly than asked."""
        return self.text if self.level >= level else f"({self.text})"


def is_negated(value: sympy.Expr) -> bool:
    """Whether a coefficient is written with a minus in front: `-2 eta` is, `1 - eta` is not."""
    return bool(value.as_coeff_Mul()[0] < 0)


Lookup = Callable[[sympy.Symbol], Code]
FUNCTIONS = {sympy.exp: "exp", sympy.log: "log", sympy.Abs: "abs"}


def scalar_code(value: sympy.Expr, lookup: Lookup) -> Code:
    """A coefficient in Python.

    Raises:
        CompilerBug: for a function of sympy that has no spelling here.
    """
    if value.is_Symbol:
        return lookup(value)
    if value.is_Integer:
        text = str(value) if abs(value) < 2**53 else repr(float(value))  # torch takes no longer whole numbers
        return Code(text, ATOM if value >= 0 else UNARY)
    if value.is_Rational:
        return _rational(value)
    if value.is_Float or value.is_NumberSymbol:  # e, of exp(1)
        return Code(repr(float(value)), ATOM if value >= 0 else UNARY)
    if value.is_Add:
        return _sum([scalar_code(term, lookup) for term in value.as_ordered_terms()])
    if value.is_Mul:
        return _product(value, lookup)
    if value.is_Pow:
        return _power(value, lookup)
    if value.func in FUNCTIONS:
        return _call(value, lookup)
    if value.func in (sympy.Max, sympy.Min):
        inner = ", ".join(scalar_code(argument, lookup).text for argument in value.args)
        return Code(f"{value.func.__name__.lower()}({inner})")
    raise CompilerBug(f"no spelling of the scalar {value}")


def _rational(value: sympy.Rational) -> Code:
    decimal = repr(float(value))
    if sympy.Rational(decimal) == value:
        return Code(decimal, ATOM if value >= 0 else UNARY)
    return Code(f"{value.p} / {value.q}", PRODUCT)


def _sum(terms: list[Code]) -> Code:
    """Positive terms first, so that no sum opens with a minus without need."""
    terms = sorted(terms, key=lambda term: term.text.startswith("-"))
    text = terms[0].text
    for term in terms[1:]:
        text += f" - {term.text[1:]}" if term.text.startswith("-") else f" + {term.at(PRODUCT)}"
    return Code(text, SUM)


def _product(value: sympy.Expr, lookup: Lookup) -> Code:
    """Numerator over denominator; square roots stay powers: `p**-0.5`."""
    sign, magnitude = ("-", -value) if is_negated(value) else ("", value)
    above, below = [], []
    for factor in magnitude.as_ordered_factors():
        base, exponent = factor.as_base_exp()
        if factor.is_Rational and not factor.is_Integer:
            above += [_rational(factor)] if factor.p != 1 or factor.q == 2 else []
            below += [Code(str(factor.q))] if factor.p == 1 and factor.q != 2 else []
        elif exponent.is_Integer and exponent < 0:
            below.append(scalar_code(base**-exponent, lookup))
        else:
            above.append(scalar_code(factor, lookup))
    text = " * ".join(code.at(PRODUCT) for code in above) or "1"
    if len(below) > 1:
        text += f" / ({' * '.join(code.at(PRODUCT) for code in below)})"
    elif below:
        text += f" / {below[0].at(POWER)}"
    return Code(sign + text, PRODUCT)


def _power(value: sympy.Expr, lookup: Lookup) -> Code:
    base, exponent = value.as_base_exp()
    if exponent == -1:
        return Code(f"1 / {scalar_code(base, lookup).at(POWER)}", PRODUCT)
    inner, outer = scalar_code(base, lookup), scalar_code(exponent, lookup)
    simple = inner.level == ATOM and (outer.level == ATOM or outer.text.lstrip("-").replace(".", "").isdigit())
    operator = "**" if simple else " ** "
    return Code(f"{inner.at(ATOM)}{operator}{outer.at(UNARY)}", POWER)


def _call(value: sympy.Expr, lookup: Lookup) -> Code:
    """`abs` is Python's own; of exponentials and logarithms only tensors have methods."""
    argument = scalar_code(value.args[0], lookup)
    if value.func is sympy.Abs:
        return Code(f"abs({argument.text})")
    if any(lookup(symbol).is_tensor for symbol in value.free_symbols):
        return Code(f"({argument.text}).{FUNCTIONS[value.func]}()")
    return Code(f"torch.tensor({argument.text}, dtype=torch.float64).{FUNCTIONS[value.func]}().item()")


def broken(statement: str, level: int, width: int) -> list[str]:
    """A statement that assigns or returns a sum; where it is too long, the sum on a line of its own, or by terms."""
    head, sign, text = statement.partition(" = " if " = " in statement else " ")
    terms = top_level_terms(text)
    if len(statement) <= width or level != SUM or len(terms) < 2:
        return [statement]
    lines = [text] if len(text) + 4 <= width else terms
    return [f"{head}{sign}(", *indented(lines), ")"]


def top_level_terms(text: str) -> list[str]:
    """
    >>> top_level_terms("a + f(b - c) - d")
    ['a', '+ f(b - c)', '- d']
    """
    terms, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and text[place : place + 3] in (" + ", " - "):
            terms.append(text[start:place])
            start = place + 1
    return [*terms, text[start:]]
