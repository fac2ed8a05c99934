"""Library words with arguments: checked against their signatures, arguments evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from crate_dsl.errors import CrateError, fail, known
from crate_dsl.language import syntax
from crate_dsl.language.model import SCALAR, TAKEN, Word
from crate_dsl.language.report import Report, counted, shown, within
from crate_dsl.language.shapes import Environment, Shapes
from crate_dsl.language.sizes import MAX_SIZE, Broken, Scope, evaluate
from crate_dsl.language.vocabulary import Vocabulary, WordSignature

KINDS = {"size", "real", "positive", "fraction", "rate", "scalar", "name"}
SAID = {
    "size": f"a whole number from 1 to {MAX_SIZE:,}",
    "real": "a number",
    "positive": "a number greater than 0",
    "fraction": "a number between 0 and 1, both excluded",
    "rate": "a number from 0 to below 1",
    "scalar": "an expression of numbers",
    "name": "a new name",
}


def find(
    kind: str, call: syntax.Call, signatures: Mapping[str, WordSignature], report: Report, of: str = ""
) -> WordSignature | None:
    """The signature of a word, None after complaining about an unknown one; `of` says of what it is a kind."""
    if call.name in signatures:
        return signatures[call.name]
    place = within(call.span, call.name)
    report.error(f'unknown {kind}{of} "{call.name}"', place, known(f"{kind}s{of}", call.name, signatures))
    return None


def word_of(
    kind: str, call: syntax.Call, signatures: Mapping[str, WordSignature], scope: Scope, report: Report
) -> Word | None:
    """The word with its values, None after complaining."""
    signature = find(kind, call, signatures, report)
    if signature is None:
        return None
    try:
        places = match_arguments(call, signature, scope)
        values = tuple(_value(argument, wanted, scope) for argument, wanted in places)
    except CrateError as error:
        report.absorb(*error.diagnostics)
    except Broken:
        pass
    else:
        return Word(call.name, values, call.span)
    return None


def match_arguments(call: syntax.Call, signature: WordSignature, scope: Scope) -> list[tuple[syntax.Expression, str]]:
    """Every argument with the kind that it must have; an optional one that does not fit is passed over.

    Raises:
        CrateError: where there are too few or too many.
    """
    required, optional = list(signature.required), list(signature.optional)
    usage = _usage(call.name, signature)
    if len(call.arguments) < len(required):
        message = f'"{call.name}" takes {_counted(signature)}, and this gives {len(call.arguments) or "none"}'
        raise fail(message, call.span, usage)
    places = list(zip(call.arguments, required, strict=False))
    for argument in call.arguments[len(required) :]:
        while optional and not _may_be(argument, optional[0], scope):
            optional.pop(0)
        if not optional:
            raise fail(_misfit(call, argument, signature), argument.span, usage)
        places.append((argument, optional.pop(0)))
    return places


def _misfit(call: syntax.Call, argument: syntax.Expression, signature: WordSignature) -> str:
    if len(call.arguments) > len(signature.required) + len(signature.optional):
        return f'"{call.name}" takes {_counted(signature)}, and this gives {len(call.arguments)}'
    if isinstance(argument, syntax.Name):
        return f'"{call.name}" knows no "{argument.name}"'
    return f'"{call.name}" has no such argument'


def _counted(signature: WordSignature) -> str:
    least, most = len(signature.required), len(signature.required) + len(signature.optional)
    return counted(most, "argument") if least == most else f"{least} to {most} arguments"


def _usage(name: str, signature: WordSignature) -> str:
    return f"usage: {signature.usage or name}"


def _may_be(argument: syntax.Expression, kind: str, scope: Scope) -> bool:
    """A bare word fits a choice; anything else, and every declared name, fits a value."""
    bare = argument.name if isinstance(argument, syntax.Name) else None
    if kind not in KINDS:
        return bare in kind.split("|")
    if kind == "name":
        return bare is not None
    return bare is None or kind == "scalar" or bare in {*scope.values, *scope.broken}


def _value(argument: syntax.Expression, kind: str, scope: Scope) -> int | Fraction | str:
    if kind not in KINDS:
        choices = kind.split("|")
        if isinstance(argument, syntax.Name) and argument.name in choices:
            return argument.name
        found = argument.name if isinstance(argument, syntax.Name) else ""
        raise fail(f"one of {', '.join(choices)} should stand here", argument.span, known("words", found, choices))
    if kind == "name":
        return _new_name(argument, scope)
    number = evaluate(argument, scope)
    if kind == "size" and (number.denominator != 1 or not 1 <= number <= MAX_SIZE):
        raise fail(f"{_written(argument, number)} and must be {SAID[kind]}", argument.span)
    inside = {"positive": number > 0, "fraction": 0 < number < 1, "rate": 0 <= number and float(number) < 1}
    if not inside.get(kind, True):
        raise fail(f"{_written(argument, number)} and must be {SAID[kind]}", argument.span)
    return int(number) if kind == "size" else number


def _new_name(argument: syntax.Expression, scope: Scope) -> str:
    name = argument.name if isinstance(argument, syntax.Name) and argument.index is None else ""
    if not name or name in {*scope.values, *scope.broken, *TAKEN}:
        raise fail("a new name should stand here", argument.span, TAKEN.get(name, "this one has a meaning already"))
    return name


def _written(argument: syntax.Expression, number: Fraction) -> str:
    span = argument.span
    text = shown(span.text)
    return f"this is {text}," if isinstance(argument, syntax.Number | syntax.Negate) else f"{text} is {shown(number)},"


def check_symbolic(call: syntax.Call, signature: WordSignature, scope: Scope, scalars: Environment,
                   vocabulary: Vocabulary, report: Report) -> None:  # fmt: skip
    """Check the arguments of an approximation, which stay symbolic where they are scalars."""
    try:
        for argument, kind in match_arguments(call, signature, scope):
            if kind == "scalar":
                _check_scalar(argument, scalars, vocabulary, report)
            else:
                _value(argument, kind, scope)
    except CrateError as error:
        report.absorb(*error.diagnostics)
    except Broken:
        pass


def _check_scalar(argument: syntax.Expression, scalars: Environment, vocabulary: Vocabulary, report: Report) -> None:
    shapes = Shapes(vocabulary)
    shape = shapes.of(argument, scalars)
    report.absorb(*shapes.diagnostics)
    if shape is not None and shape != SCALAR:
        report.error(f"a number should stand here, and this is {shape}", argument.span)
