"""Sizes, reals and presets: which name has which value, exactly, and where that value came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import isqrt

from crate_dsl.errors import CrateError, Source, Span, fail, known
from crate_dsl.language import syntax
from crate_dsl.language.model import TAKEN
from crate_dsl.language.report import Report, shown, within

MAX_SIZE = 1_000_000
MAX_REPEAT = 1000
MAX_BITS = 2000  # of numerators and denominators: exact arithmetic must not be made to run for hours
MAX_MAGNITUDE = Fraction(10**100)  # of numbers and their reciprocals, so that a few of them multiplied are floats
SENSIBLE = "numbers go from 10^-100 to 10^100"
Given = str | int | float | Fraction


@dataclass(frozen=True)
class Declared:
    """A size or a real as the file declares it."""

    kind: str  # "size" or "real"
    binding: syntax.Binding

    @property
    def name(self) -> str:
        return self.binding.name

    @property
    def span(self) -> Span:
        return within(self.binding.span, self.name)


@dataclass(frozen=True)
class Scope:
    """The values in force. A name in `broken` has been complained about already and stands for anything."""

    declared: tuple[Declared, ...]
    replaced: Mapping[str, tuple[syntax.Expression | Fraction, Span]]
    values: Mapping[str, Fraction] = field(default_factory=dict)
    origins: Mapping[str, Span] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    tokens_axis: str | None = None

    @property
    def sizes(self) -> dict[str, int]:
        names = {d.name for d in self.declared if d.kind == "size"} | {self.tokens_axis}
        return {name: int(value) for name, value in self.values.items() if name in names}

    @property
    def reals(self) -> dict[str, Fraction]:
        names = {d.name for d in self.declared if d.kind == "real"}
        return {name: value for name, value in self.values.items() if name in names}

    @property
    def axes(self) -> frozenset[str]:
        """What an axis of a matrix may be called: every size, and the number of tokens where the file names it."""
        return frozenset(self.names("size")) | ({self.tokens_axis} if self.tokens_axis else set())

    def origin_notes(self, *names: str) -> list[tuple[Span, str]]:
        """Where values come from, as notes of a message; those given on the command line come from no place."""
        return [(self.origins[n], f"{n} = {shown(self.values[n])} comes from here") for n in names if n in self.origins]

    def names(self, kind: str) -> list[str]:
        return [d.name for d in self.declared if d.kind == kind]


class Broken(Exception):
    """The value depends on something that has been reported already."""


def evaluate(expression: syntax.Expression, scope: Scope) -> Fraction:
    """The exact value of an expression of sizes and reals.

    Raises:
        CrateError: where a name is unknown or the value is not rational.
        Broken: where a name in it has no value because of an earlier error.
    """
    match expression:
        case syntax.Number():
            return expression.value
        case syntax.Name(index=None):
            return _value_of(expression, scope)
        case syntax.Negate():
            return -evaluate(expression.operand, scope)
        case syntax.Binary():
            left, right = evaluate(expression.left, scope), evaluate(expression.right, scope)
            return _bounded(_arithmetic(expression, left, right), expression.span)
        case syntax.Call(name="sqrt", arguments=(argument,)):
            return _square_root(evaluate(argument, scope), expression.span)
    hint = "a value is made of numbers, sizes, reals, + - * / ^ and sqrt"
    raise fail("this cannot be part of a size or a real", expression.span, hint)


def _value_of(name: syntax.Name, scope: Scope) -> Fraction:
    if name.name in scope.values:
        return scope.values[name.name]
    if name.name in scope.broken:
        raise Broken
    if name.name == scope.tokens_axis:
        hint = "it may stand in energies, step sizes and the arguments of approximations"
        raise fail(f'"{name.name}", the number of tokens, is not known here yet', name.span, hint)
    later = next((d for d in scope.declared if d.name == name.name), None)
    if later:
        hint = "a value may use what stands above it"
        raise fail(
            f'"{name.name}" is used before it has a value', name.span, hint, [(later.span, "it is declared here")]
        )
    raise fail(f'unknown size or real "{name.name}"', name.span, known("sizes and reals", name.name, scope.values))


def _arithmetic(node: syntax.Binary, left: Fraction, right: Fraction) -> Fraction:
    match node.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            if right == 0:
                raise fail("division by zero", node.span)
            return left / right
        case "^":
            return _power(left, right, node.span)
    raise fail(f'"{node.operator}" works on matrices', node.span, f'between numbers write "{node.operator[1:]}"')


def _power(base: Fraction, exponent: Fraction, span: Span) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > 64:
        hint = "sizes and reals are exact: exponents are whole numbers from -64 to 64; sqrt(...) knows perfect squares"
        raise fail("this power is not an exact number of reasonable size", span, hint)
    if base == 0 and exponent < 0:
        raise fail("division by zero", span)
    return base ** int(exponent)


def _square_root(value: Fraction, span: Span) -> Fraction:
    if value >= 0:
        root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
        if root * root == value:
            return root
    hint = "sizes and reals are exact; write the root where it is used, as in softmax(1/sqrt(p))"
    raise fail(f"the square root of {shown(value)} is not an exact number", span, hint)


def _bounded(value: Fraction, span: Span) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise fail("this number is absurdly long", span)
    if value and not 1 / MAX_MAGNITUDE <= abs(value) <= MAX_MAGNITUDE:
        raise fail("this number is not of reasonable size", span, SENSIBLE)
    return value


# ---- the scope of a file -------------------------------------------------------------------------------------------


def declare(spec: syntax.Spec, report: Report) -> tuple[Declared, ...]:
    """Sizes and reals in the order of the file, the first of each name."""
    found: dict[str, Declared] = {}
    for item in spec.items:
        if isinstance(item, syntax.Sizes | syntax.Reals):
            kind = "size" if isinstance(item, syntax.Sizes) else "real"
            for declared in (Declared(kind, binding) for binding in item.bindings):
                _declare(declared, found, report)
    return tuple(found.values())


def _declare(declared: Declared, found: dict[str, Declared], report: Report) -> None:
    if declared.name in TAKEN:
        report.error(f'a {declared.kind} cannot be called "{declared.name}"', declared.span, TAKEN[declared.name])
    elif declared.name in found:
        first = found[declared.name]
        note = (first.span, f"the first is a {first.kind}, here")
        report.error(
            f'"{declared.name}" is declared twice', declared.span, "to override a value, use a preset or --set", [note]
        )
    else:
        found[declared.name] = declared


def settle(scope: Scope, report: Report) -> Scope:
    """The values of all sizes and reals, in the order of the file; a replaced value stands where the old one stood."""
    for declared in scope.declared:
        value, origin = scope.replaced.get(declared.name, (declared.binding.value, declared.binding.span))
        try:
            number = value if isinstance(value, Fraction) else evaluate(value, scope)
            if declared.kind == "size":
                check_size(declared.name, number, value, origin, scope)
        except (CrateError, Broken) as error:
            report.absorb(*getattr(error, "diagnostics", ()))
            scope = replace(scope, broken=scope.broken | {declared.name})
        else:
            values, origins = {**scope.values, declared.name: number}, {**scope.origins, declared.name: origin}
            scope = replace(scope, values=values, origins=origins)
    return scope


def check_size(name: str, number: Fraction, value: syntax.Expression | Fraction, origin: Span, scope: Scope) -> None:
    """Complain about a size that is no whole number from 1 to a million.

    Raises:
        CrateError: with the values that it was computed from, and their places.
    """
    parts = used_values(value, scope)
    became = "".join(f", {n} = {shown(scope.values[n])}" for n in parts).removeprefix(", ")
    notes = scope.origin_notes(*parts)
    hint = f"with {became}" if became else "a size is a whole number from 1 to 1,000,000"
    if number.denominator != 1:
        written = _decimal(number)
        raise fail(f'size "{name}" would be {written}, which is not a whole number', origin, hint, notes)
    if not 1 <= number <= MAX_SIZE:
        problem = "a size must be at least 1" if number < 1 else f"a size of more than {MAX_SIZE:,} is not sensible"
        raise fail(f'size "{name}" would be {shown(number)}: {problem}', origin, hint if became else "", notes)


def _decimal(number: Fraction) -> str:
    return (
        shown(f"{number.numerator}/{number.denominator} = {float(number):.6g}")
        if abs(number) < 10**15
        else shown(number)
    )


def used_values(value: syntax.Expression | Fraction, scope: Scope) -> list[str]:
    """The names that a value was computed from."""
    names: dict[str, None] = {}
    pending = [value]
    while pending:
        match pending.pop(0):
            case syntax.Name() as name if name.name in scope.values:
                names[name.name] = None
            case syntax.Binary() as node:
                pending += [node.left, node.right]
            case syntax.Negate() as node:
                pending.append(node.operand)
            case syntax.Call() as node:
                pending += node.arguments
    return list(names)


def whole_number(expression: syntax.Expression, scope: Scope, what: str, most: int) -> int:
    """The value of a count such as a repeat.

    Raises:
        CrateError: where it is no whole number from 1 to `most`.
    """
    number = evaluate(expression, scope)
    if number.denominator != 1 or not 1 <= number <= most:
        notes = scope.origin_notes(*used_values(expression, scope))
        raise fail(
            f"{what} would be {shown(number)}", expression.span, f"a whole number from 1 to {most:,} is needed", notes
        )
    return int(number)


# ---- overrides -------------------------------------------------------------------------------------------------------


def setting(name: str, given: Given) -> Span:
    """The place of `--set name=given`."""
    text = f"{name}={given}"
    return Span(Source("--set", text), 0, len(text))


def given_number(name: str, given: Given) -> tuple[Fraction, Span]:
    """The exact value of `--set name=given`, and a place to complain about.

    Raises:
        CrateError: where it is not a finite number.
    """
    whole = setting(name, given)
    span = Span(whole.source, len(name) + 1, whole.end)
    words = str(given).strip()
    if not _plain(words):
        hint = f"exponents of at most {syntax.MAX_EXPONENT} are kept exactly"
        raise fail(f'"{shown(given)}" is too long to be meant, or not a number', span, hint)
    if isinstance(given, bool) or len(words) > 100:
        raise fail(f'"{shown(given)}" is not a number', span, "write a number such as 384, 0.1, 1e-3 or 1/3")
    try:
        return _bounded(Fraction(words), span), whole
    except (ValueError, ZeroDivisionError):
        raise fail(f'"{shown(given)}" is not a number', span, "write a number such as 384, 0.1, 1e-3 or 1/3") from None


def _plain(text: str) -> bool:
    """No exponent so large that writing the number out would take forever."""
    _, _, exponent = text.lower().partition("e")
    digits = exponent.lstrip("+-")
    return not digits or (digits.isdigit() and len(digits) <= 3 and int(digits) <= syntax.MAX_EXPONENT)
