"""`class attention(2, K, scale)`: a class token that enters behind the blocks and alone reads the tokens."""

from __future__ import annotations

from crate_dsl.language import syntax
from crate_dsl.language.front import Front, only
from crate_dsl.language.model import ClassAttention, Loss
from crate_dsl.language.report import Report, within
from crate_dsl.language.sizes import MAX_REPEAT, Scope
from crate_dsl.language.vocabulary import Vocabulary
from crate_dsl.language.words import word_of

HERE = "the class attention is here"


def check_class_attention(
    spec: syntax.Spec, front: Front, loss: Loss | None, scope: Scope, vocabulary: Vocabulary, report: Report
) -> ClassAttention | None:
    """The stage, None where there is no such line or something is wrong with it."""
    line = only(spec, syntax.ClassLine, "class", report)
    if line is None:
        return None
    before = len(report.errors)
    word = word_of("reader", line.word, vocabulary.readers, scope, report)
    _check_surroundings(spec, line, report)
    for penalty in loss.penalties if loss else ():
        if penalty.block is None:
            hint = "the head reads the class token beside the tokens; say in which block it is evaluated: in encoder"
            report.error("this energy is one of the tokens alone", penalty.span, hint, [(line.span, HERE)])
    if word is None:
        return None
    blocks, heads, scale = word.arguments
    if blocks > MAX_REPEAT:
        report.error(f"there would be {blocks} blocks", line.word.span, f"at most {MAX_REPEAT:,} are allowed")
    rows = front.tokens.rows if front.tokens else ""
    if (width := int(scope.values.get(rows, heads))) % heads:
        near = next(n for n in range(heads, 0, -1) if width % n == 0)
        report.error(f"{heads} heads do not divide {rows} = {width}", line.word.span, f"{near} would divide it")
    return ClassAttention(blocks, heads, scale, word, line.span) if len(report.errors) == before else None


def _check_surroundings(spec: syntax.Spec, line: syntax.ClassLine, report: Report) -> None:
    """No other class token, blocks before it alone, and a head that reads what it makes."""
    note = [(line.span, HERE)]
    for item in spec.items:
        match item:
            case syntax.TokensLine():
                for term in (term for term in item.terms if term.name == "class_token"):
                    report.error("a second class token", term.span, "class attention brings one: leave this out", note)
            case syntax.BlockDeclaration() | syntax.InverseDeclaration() if item.span.start > line.span.start:
                hint = "the class token is for the head alone: write the class line behind the last block"
                report.error(
                    f"the {item.role} stands behind the class attention", within(item.span, item.role), hint, note
                )
            case syntax.HeadLine() if item.of is None or item.of.name != "class_token":
                hint = "write: head classify(classes) of class_token"
                report.error("the head does not read the class token", item.word.span, hint, note)
