"""`input vectors(d, N)`: tokens that come as they are, with what then cannot stand beside them."""

from __future__ import annotations

from crate_dsl.language import syntax
from crate_dsl.language.model import Word
from crate_dsl.language.report import Report
from crate_dsl.language.sizes import MAX_SIZE, Scope

SOURCES = {"patches": "image", "vectors": "vectors"}  # words of a tokens line, and the input that each reads
SAID = {"image": "an image", "vectors": "vectors"}
NEEDED = {"image": "patches(patch) + class_token + position(learned)", "vectors": "vectors"}


def reads_vectors(spec: syntax.Spec) -> bool:
    return any(isinstance(item, syntax.Input) and item.word.name == "vectors" for item in spec.items)


def check_sources(line: syntax.TokensLine, given: Word | None, report: Report) -> bool:
    """Whether the words of a tokens line fit the input; complains where they do not."""
    before = len(report.errors)
    for term in line.terms:
        wanted = SOURCES.get(term.name)
        if given and wanted and wanted != given.name:
            message = f'"{term.name}" reads {SAID[wanted]}, and the input is {SAID[given.name]}'
            hint = f"write: tokens {line.name}: d x N = {NEEDED[given.name]}"
            report.error(message, term.span, hint, [(given.span, "the input is stated here")])
    if not any(term.name in SOURCES for term in line.terms):
        example = NEEDED[given.name if given else "image"]
        hint = f"add {example.partition('(')[0]}: tokens {line.name}: d x N = {example}"
        report.error("the tokens come from nowhere", line.span, hint)
    return len(report.errors) == before


def vector_count(line: syntax.TokensLine, words: list[Word], given: Word, scope: Scope, report: Report) -> int | None:
    """The number of vectors; their length must be that of the tokens, and they lie on no grid."""
    before, (length, count) = len(report.errors), given.arguments
    rows, cols = line.dimensions.rows.name, line.dimensions.cols.name
    for name, value, what, of in ((rows, length, "entries", "rows"), (cols, count, "vectors", "columns")):
        if scope.values.get(name, value) != value:
            message = f"the input gives {value} {what}, and the tokens have {name} = {scope.values[name]} {of}"
            report.error(message, given.span, f"write: input vectors({rows}, {cols})",
                         [(line.dimensions.span, "the tokens are declared here")])  # fmt: skip
    position = next((word for word in words if word.name == "position"), None)
    if position and "sincos" in position.arguments:
        report.error("vectors lie on no grid that sines could encode", position.span, "write: position(learned)")
    extra = next((word for word in words if word.name == "class_token"), None)
    if extra and cols in scope.values:
        message = f"with a class token there are {count + 1} tokens, and {cols} = {count}"
        report.error(message, extra.span, f"give the number of vectors another name: input vectors({rows}, count)")
    if count >= MAX_SIZE:
        report.error(f"these are {count:,} tokens", given.span, f"at most {MAX_SIZE:,} are allowed")
    return count if len(report.errors) == before else None
