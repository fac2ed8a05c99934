"""A program for inference: weights are constants, and what is made of them alone is split off, to be made once.

The norm of the tokens that a step reads is opened, all passes run with work on weights for free, and every maximal
value of weights that takes work becomes an output of the step's `fold` graph and a parameter of the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from crate_dsl.language.model import ONE
from crate_dsl.operators.build import transposed
from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import Builder, Graph, Operator
from crate_dsl.operators.interpret import Inputs, interpret
from crate_dsl.operators.norms import BIAS, WEIGHT, normalised, opened, reads_whole
from crate_dsl.operators.passes import optimise, optimise_graph
from crate_dsl.operators.program import Program, StepProgram
from crate_dsl.operators.prune import prune
from crate_dsl.operators.rewrite import rebuild
from crate_dsl.operators.uses import parameters_of
from crate_dsl.operators.verify import distinct_sizes, largest, random_inputs, relative_error
from crate_dsl.operators.weights import Weights

INFERENCE = Workload(frozen=True)
FOLDED = "fold."  # what names of folded values begin with; no name of a spec has a dot


def freeze(program: Program, workload: Workload = INFERENCE) -> Program:
    """The optimised program with the steps of its forward pass split.

    Raises:
        CrateError: where a causal step has a part without a causal form.
    """
    result = optimise(program, replace(workload, frozen=False))
    blocks = []
    for before, after in zip(program.blocks, result.blocks, strict=True):
        steps = zip(before.steps, after.steps, strict=True)
        blocks.append(replace(after, steps=tuple(_frozen(step, rest, workload) for step, rest in steps)))
    return prune(replace(result, blocks=tuple(blocks), frozen=True), workload)


def _frozen(step: StepProgram, result: StepProgram, workload: Workload) -> StepProgram:
    """The optimised step with frozen graphs in the place of those that a forward pass runs."""
    graphs = _optimised(step, workload)
    names, (fold, *graphs) = _graph_names(step), split(f"{step.forward.name}.fold", graphs)
    found = dict(zip(names, graphs, strict=True))
    estimates = tuple(graph for name, graph in found.items() if isinstance(name, int))
    live = {"forward": found["forward"], "code": found.get("code"), "estimates": estimates}
    return replace(result, fold=fold, **live, pruned=None, single=None)  # one token gains nothing where M is there


def live_graphs(step: StepProgram) -> list[Graph]:
    """The graphs that a forward pass may run."""
    return [*([step.code] if step.code else []), step.forward, *step.estimates]


def _graph_names(step: StepProgram) -> list[str | int]:
    return [*(["code"] if step.code else []), "forward", *range(len(step.estimates))]


def _optimised(step: StepProgram, workload: Workload) -> list[Graph]:
    """With the norm opened, unless a graph reads its result as a whole: then it is one operator as ever."""
    plain = live_graphs(step)
    if not step.estimates and not step.fits:  # these read the normed tokens as they are
        graphs = [optimise_graph(opened(graph, step.derived), workload) for graph in plain]
        if not reads_whole(graphs, step.derived):
            return graphs
    return [optimise_graph(graph, workload) for graph in plain]


# ---- what is made once -------------------------------------------------------------------------------------------


def split(name: str, graphs: Sequence[Graph]) -> tuple[Graph, ...]:
    """The graph that makes what the others read of weights alone, and these with it as parameters."""
    first = graphs[0]
    fold = _Fold(Builder(name, first.sizes, first.tokens))
    rest = [fold.without(graph) for graph in graphs]
    return (fold.graph(), *rest)


class _Fold:
    """Gathers values of weights from several graphs."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._names: dict[int, str] = {}

    def graph(self) -> Graph:
        return self._builder.graph(tuple((name, number) for number, name in self._names.items()))

    def without(self, graph: Graph) -> Graph:
        """The graph with parameters in the place of what is folded."""
        weights, copies = Weights(graph), self._copied(graph)
        builder = Builder(graph.name, graph.sizes, graph.tokens, graph.causal)
        numbers: dict[int, int] = {}
        for number in graph:
            operator = graph[number]
            if weights.fold(number) and not _is_view(operator):
                continue
            inputs = []
            for place, source in enumerate(operator.inputs):
                folds = weights.fold(source) and not _is_view(graph[source])
                stacked = folds and place == 0 and _stands_before_tokens(graph, operator)
                inputs.append(self._leaf(builder, graph, source, copies, stacked) if folds else numbers[source])
            numbers[number] = builder.add(replace(operator, inputs=tuple(inputs)))
        outputs = []
        for name, number in graph.outputs:
            outputs.append((name, numbers[number] if number in numbers else self._leaf(builder, graph, number, copies)))
        return builder.graph(tuple(outputs))

    def _copied(self, graph: Graph) -> dict[int, int]:
        """Everything of a graph that is made of weights, in the fold graph; what nothing reads is left out later."""
        weights, numbers = Weights(graph), {}
        for number in filter(weights, graph):
            operator = graph[number]
            numbers[number] = self._builder.add(replace(operator, inputs=tuple(numbers[n] for n in operator.inputs)))
        return numbers

    def _leaf(self, builder: Builder, graph: Graph, source: int, copies: dict[int, int], stacked: bool = False) -> int:
        """The parameter for a folded value; a family before tokens is stored as learned ones are, transposed."""
        value = copies[source]
        if stacked:
            value = transposed(self._builder, value)
        if value not in self._names:
            self._names[value] = self._new_name(_hint(graph, source))
        kind = self._builder.type(value)
        leaf = builder.add(Operator("parameter", (), kind, (self._names[value],)))
        return transposed(builder, leaf) if stacked else leaf

    def _new_name(self, hint: str) -> str:
        taken, number, name = set(self._names.values()), 1, FOLDED + hint
        while name in taken:
            number += 1
            name = f"{FOLDED}{hint}{number}"
        return name


def _is_view(operator: Operator) -> bool:
    """What costs nothing stays where it is read."""
    return operator.kind in ("transpose", "diagonal")


def _stands_before_tokens(graph: Graph, operator: Operator) -> bool:
    """Whether an operator applies a family of maps to the same tokens."""
    if operator.kind not in ("product", "affine"):
        return False
    left, right = (graph[n].type for n in operator.inputs[:2])
    return bool(left.family) and right.batch and not right.family


def _hint(graph: Graph, number: int) -> str:
    """A name that says what a value is made of."""
    operator = graph[number]
    if operator.kind == "quantity":
        return operator.attributes[0]
    if operator.type.cols == ONE:
        return "bias" if any(graph[user].kind == "column" for user in graph.users(number)) else "scale"
    cone = [graph[n] for n in graph.needed_for([number])]
    parameters = {o.attributes[0]: o.type for o in cone if o.kind == "parameter"}
    matrices = [name for name, kind in parameters.items() if kind.cols != ONE]
    sums = any(o.kind == "combine" and len(o.inputs) > 1 and o.type.cols != ONE for o in cone)
    if len(matrices) != 1 or sums:
        return "M"
    return f"{matrices[0]}_{'normed' if WEIGHT in parameters else 'scaled'}"


# ---- the contract ------------------------------------------------------------------------------------------------


def frozen_error(before: StepProgram, after: StepProgram) -> float:
    """The largest relative error of the split graphs against a step's lowered ones, at random points."""
    pairs = zip(live_graphs(before), live_graphs(after), strict=True)
    return largest(error for a, b in pairs for error in _errors(a, b, after))


def _errors(before: Graph, after: Graph, step: StepProgram) -> Iterator[float]:
    sizes = distinct_sizes(before)
    before, after = replace(before, sizes=sizes), replace(after, sizes=sizes)
    fold = replace(_part(step.fold, parameters_of(after)), sizes=sizes)
    drawn = [random_inputs(graph, seed) for seed, graph in enumerate((fold, after, before))]
    matrices = {name: value for inputs in drawn for name, value in inputs.matrices.items()}
    scalars = {name: value for inputs in drawn for name, value in inputs.scalars.items()}
    if normalised(step.derived) in matrices:
        normed = matrices[WEIGHT] * matrices[normalised(step.derived)] + matrices[BIAS]
        matrices[step.derived.read.name] = normed
    matrices |= interpret(fold, Inputs(matrices, scalars)) if fold.outputs else {}
    wanted, found = (interpret(graph, Inputs(matrices, scalars)) for graph in (before, after))
    yield from (relative_error(found[name], value) for name, value in wanted.items())


def _part(fold: Graph, names: Sequence[str]) -> Graph:
    """The fold graph with the outputs that one graph reads."""
    outputs = tuple((name, number) for name, number in fold.outputs if name in names)
    return rebuild(replace(fold, outputs=outputs), lambda builder, operator: None)
