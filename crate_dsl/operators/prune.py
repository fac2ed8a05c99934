"""What a head that reads one token needs of the last layer: the first column of a result, computed by itself.

The choice of a column moves through sums, products, maps of columns and the queries of attention as far as it goes, so
that only what the column depends on is left: all tokens remain keys and values, one is asked for. The weights of keys
and values then act on that one query, and on the one answer, instead of on all tokens.
"""

from __future__ import annotations

from dataclasses import replace

from crate_dsl.language.model import NormStage
from crate_dsl.operators.build import ENTRYWISE, combine, family_sum, identity, joined, one, product, transposed
from crate_dsl.operators.columns import is_causal
from crate_dsl.operators.cost import Workload, price
from crate_dsl.operators.graph import FIRST, Builder, Graph, Operator
from crate_dsl.operators.program import BlockProgram, Program, StepProgram
from crate_dsl.operators.rewrite import copied

COLUMN_BY_COLUMN = {"prox", "family_softmax", "family_logsumexp"}
MAPS = {"product", "affine"}  # of tokens
OF_THE_LAST = {"product", "attention", "solve"}  # whose columns are those of the last input


def prune(program: Program, workload: Workload) -> Program:
    """Of the last layer, the last step that mixes tokens gets a graph for the class token, if the head reads no other.

    The steps behind it act on every token by itself: the one that is left is what `single` is for.
    """
    model = program.derivation.model
    after = [stage for stage in model.stages if not isinstance(stage, NormStage)][-1]
    if model.head.of != "class_token" or program.blocks[-1].block != after:
        return program
    *others, last = program.blocks
    return replace(program, blocks=(*others, _last_layer(last, workload)))


def _last_layer(block: BlockProgram, workload: Workload) -> BlockProgram:
    mixing = [n for n, step in enumerate(block.steps) if not is_causal(step)]
    if not mixing or not has_one_graph(block.steps[mixing[-1]]):
        return block
    before, step, behind = block.steps[: mixing[-1]], block.steps[mixing[-1]], block.steps[mixing[-1] + 1 :]
    first = pruned(step.forward, workload)
    if first is None:
        return block
    behind = tuple(replace(other, pruned=other.single) for other in behind)
    return replace(block, steps=(*before, replace(step, pruned=first), *behind))


def has_one_graph(step: StepProgram) -> bool:
    """Whether a step is a map of the tokens alone: nothing is handed in or kept of data, nothing read out."""
    return not (step.code or step.fits or any(quantity.is_given for quantity in step.derived.quantities))


def pruned(graph: Graph, workload: Workload) -> Graph | None:
    """The graph of the first column of every output, None where it costs no less than all of them."""
    result = min((_first(graph, absorbs) for absorbs in (False, True)), key=lambda first: price(first, workload))
    return result if price(result, workload) < price(graph, workload) else None


def _first(graph: Graph, absorbs: bool) -> Graph:
    """The second time it is known which values are there whole."""
    builder, numbers = copied(replace(graph, sizes={**graph.sizes, FIRST: 1}))
    outputs = [(name, numbers[n]) for name, n in graph.outputs]
    whole: set[int] = set()
    for _ in range(2):
        choice = _Choice(builder, whole, absorbs)
        result = builder.graph(tuple((name, choice.of(n)) for name, n in outputs))
        whole = set(result)
    return result


class _Choice:
    """Chooses the first column of values of a graph that is being built; of a value that is there whole, by a view.

    Where it absorbs, weights before keys and values go to the query and the answer.
    """

    def __init__(self, builder: Builder, whole: set[int], absorbs: bool) -> None:
        self._builder, self._whole, self._absorbs = builder, whole, absorbs
        self._known: dict[int, int] = {}

    def of(self, number: int) -> int:
        if number not in self._known:
            self._known[number] = self._made(number)
        return self._known[number]

    def _made(self, number: int) -> int:
        builder, operator = self._builder, self._builder[number]
        last = operator.inputs[-1:]
        if number in self._whole:
            return self._view(number)
        match operator.kind:
            case "combine":
                terms = [(c, self.of(n)) for c, n in operator.terms]
                return combine(builder, terms, operator.type.rows, FIRST)
            case "family_sum":
                return family_sum(builder, self.of(*last))
            case "column":
                return self._with(operator, operator.inputs)
            case "merged" | "affine":
                return self._with(operator, (operator.inputs[0], *map(self.of, operator.inputs[1:])))
            case "function" if operator.attributes[0] in {*ENTRYWISE, "softmax"}:
                return self._with(operator, tuple(map(self.of, operator.inputs)))
            case "gram_solve":
                return self._solved(operator)
            case "attention" if self._absorbs and self._are_mapped(*operator.inputs[:2]):
                return self._absorbed(operator)
            case kind if kind in COLUMN_BY_COLUMN or (kind in OF_THE_LAST and self._is_chosen(*last)):
                return self._with(operator, (*operator.inputs[:-1], self.of(*last)))
            case "broadcast" if operator.attributes[0] == "rows":
                return self._with(operator, (operator.inputs[0], self.of(*last)))
        return self._view(number)

    def _view(self, number: int) -> int:
        return self._with(Operator("first", (number,), self._builder.type(number)), (number,))

    def _is_chosen(self, number: int) -> bool:
        """Whether a value has a column per token; a diagonal matrix has to be built for that."""
        kind = self._builder.type(number)
        return kind.cols == self._builder.tokens and not kind.diagonal

    def _with(self, operator: Operator, inputs: tuple[int, ...]) -> int:
        kind = replace(operator.type, cols=FIRST, diagonal=False)
        return self._builder.add(replace(operator, inputs=inputs, type=kind))

    def _are_mapped(self, *numbers: int) -> bool:
        """Whether values are learned families of maps of tokens that all heads have in common."""
        mapped = [o for o in map(self._builder.__getitem__, numbers) if o.kind in MAPS]
        kinds = [tuple(map(self._builder.type, operator.inputs[:2])) for operator in mapped]
        return len(kinds) == len(numbers) and all(
            not weights.batch and tokens.batch and not tokens.family for weights, tokens in kinds
        )

    def _absorbed(self, operator: Operator) -> int:
        """`B X softmax(s (A X)' q)` is `B (X softmax(s X' (A' q)))`: with one q that is less to do than `A X`.

        What is added to all keys changes no softmax; what is added to all values is added to the answer.
        """
        builder, (value, key, query) = self._builder, operator.inputs
        (after, values, *added), (before, keys, *_) = builder[value].inputs, builder[key].inputs
        asked = product(builder, (transposed(builder, before), self.of(query)))
        kind = joined(map(builder.type, (values, keys, asked)), builder.type(values).rows, FIRST)
        answer = product(builder, (after, builder.add(replace(operator, inputs=(values, keys, asked), type=kind))))
        return combine(builder, [(one, n) for n in (answer, *map(self.of, added))])

    def _solved(self, operator: Operator) -> int:
        """`(c I + s W W')^-1 w` for one column w: a solve."""
        builder, (tokens,) = self._builder, operator.inputs
        (shift, scale), rows = operator.attributes[0], operator.type.rows
        turned = builder.add(Operator("transpose", (tokens,), builder.type(tokens).T))
        gram = product(builder, (tokens, turned))
        matrix = combine(builder, [(shift, identity(builder, rows)), (scale, gram)], rows, rows)
        kind = replace(operator.type, cols=FIRST)
        return builder.add(Operator("solve", (matrix, self.of(tokens)), kind, (True,)))
