"""`stochastic depth linear(0.1)`: how often training leaves a step out (Huang et al. 2016)."""

from __future__ import annotations

from crate_dsl.language import syntax
from crate_dsl.language.front import only
from crate_dsl.language.model import Block, Word
from crate_dsl.language.report import Report
from crate_dsl.language.sizes import Scope
from crate_dsl.language.vocabulary import Vocabulary
from crate_dsl.language.words import word_of


def check_depth(
    spec: syntax.Spec, blocks: list[Block], scope: Scope, vocabulary: Vocabulary, report: Report
) -> Word | None:
    """The rule with its rate, None where there is no line or after complaining."""
    line = only(spec, syntax.DepthLine, "stochastic depth", report)
    word = word_of("rule", line.word, vocabulary.depths, scope, report) if line else None
    if word and word.name == "linear" and word.arguments[0] and sum(block.repeat for block in blocks) == 1:
        report.warn("nothing is left out of one layer", line.span, "a linear rate is 0 there; uniform(...) is not")
    return word
