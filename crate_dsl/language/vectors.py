"""`input vectors(d, N)`: tokens that come as they are, with what then cannot stand beside them."""

from __future__ import annotations

from crate_dsl.language import syntax
from crate_dsl.language.model import Word
from crate_dsl.language.report import Report
from crate_dsl.language.sizes import MAX_SIZE, Scope


def reads_vectors(spec: syntax.Spec) -> bool:
    return any(line.word.name == "vectors" for line in spec.all(syntax.Input))


def check_vectors(line: syntax.TokensLine, words: list[Word], given: Word, scope: Scope, report: Report) -> bool:
    """Whether vectors fit their tokens line: their length is that of the tokens, and they lie on no grid."""
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
    return len(report.errors) == before
