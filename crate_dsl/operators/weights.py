"""Which values of a graph are made of weights alone: constant, once a network is trained."""

from __future__ import annotations

from crate_dsl.operators.columns import counts_tokens
from crate_dsl.operators.graph import Operators

FREE = {"parameter", "identity", "ones", "zero", "constant", "transpose", "diagonal"}  # leaves and views


class Weights:
    """Says of a value whether it is made of weights alone, and whether making it takes any work.

    What has the axis of the tokens, or counts them, is none: another text may have another number of them.
    """

    def __init__(self, operators: Operators) -> None:
        self._operators = operators

    def __call__(self, number: int) -> bool:
        operator, tokens = self._operators[number], self._operators.tokens
        kind = operator.type
        if kind.batch or operator.kind == "input" or tokens in (kind.rows, kind.cols, kind.family):
            return False
        return not counts_tokens(operator, tokens) and all(map(self, operator.inputs))

    def takes_work(self, number: int) -> bool:
        operator = self._operators[number]
        return operator.kind not in FREE or any(map(self.takes_work, operator.inputs))

    def fold(self, number: int) -> bool:
        """Whether a value is worth being made once and kept."""
        return self(number) and self.takes_work(number)
