"""Which values of a graph are the same for every prefix of the tokens: weights, and what acts on a token by itself."""

from __future__ import annotations

from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.constraints import COLUMNWISE
from crate_dsl.operators.build import ENTRYWISE
from crate_dsl.operators.graph import Operator, Operators
from crate_dsl.operators.program import StepProgram
from crate_dsl.operators.uses import forward_graphs
from crate_dsl.operators.verify import symbols_of

MADE = {"input", "parameter", "identity", "ones", "zero", "constant", "fill"}
EVERY_ENTRY = {"transpose", "combine", "family_sum", "family_softmax", "family_logsumexp", "prox", "column", "diagonal",
               "broadcast", "formula", "quantity"}  # fmt: skip
CONTRACTING = {"product", "merged", "affine"}
PROJECTIONS = {ATOMS[name].projection for name in COLUMNWISE}
COLUMN_BY_COLUMN = {"inverse", "solve", "column_sums", "column_norms", "column_logsumexp", "softmax"} | PROJECTIONS
ROW_BY_ROW = {"row_sums", "unit_rows"}


class Fixed:
    """Says of a value whether that of tokens 1..t is the leading block of that of all tokens, whatever t.

    With `held`, a quantity of tokens is: what it holds for a token stays.
    """

    def __init__(self, operators: Operators, held: bool = False) -> None:
        self._operators, self._tokens, self._held = operators, operators.tokens, held
        self._known: dict[int, bool] = {}

    def __call__(self, number: int) -> bool:
        if number not in self._known:
            operator = self._operators[number]
            if self._held and operator.kind == "quantity" and self._tokens in (operator.type.rows, operator.type.cols):
                self._known[number] = True
            else:
                self._known[number] = all(map(self, operator.inputs)) and self._keeps(operator)
        return self._known[number]

    def _keeps(self, operator: Operator) -> bool:
        """Nothing is added up over the tokens, and nothing counts them."""
        if counts_tokens(operator, self._tokens):
            return False
        types = [self._operators[n].type for n in operator.inputs]
        name = operator.attributes[0] if operator.kind in ("function", "lines") else operator.kind
        if name in MADE | EVERY_ENTRY | ENTRYWISE:
            return True
        if name in CONTRACTING:
            inner = [kind for kind in types if not kind.diagonal][:-1] if name == "product" else types[:1]
            return all(kind.cols != self._tokens for kind in inner)
        if name in ROW_BY_ROW:
            return all(kind.cols != self._tokens for kind in types)
        return name in COLUMN_BY_COLUMN and all(kind.rows != self._tokens for kind in types)


def counts_tokens(operator: Operator, tokens: str) -> bool:
    """Whether the number of tokens stands in an operator's scalars."""
    return any(symbol.name == tokens for symbol in symbols_of(operator))


def acts_on_every_token(step: StepProgram) -> bool:
    """Whether a step treats every token by itself, with nothing learned for a place among them."""
    graphs = forward_graphs(step)
    kinds = (graph[n].type for graph in graphs for n in graph.operators("parameter"))
    placed = any(step.forward.tokens in (kind.rows, kind.cols) for kind in kinds)
    return not (placed or step.derived.step.causal) and is_causal(step)


def is_causal(step: StepProgram) -> bool:
    """Whether no token of a step's result depends on later ones: stated so, or acting on every token by itself."""
    if step.derived.step.causal:
        return True
    graphs = forward_graphs(step)
    return all(Fixed(graph)(graph.output) for graph in graphs)
