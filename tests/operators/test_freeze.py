"""Frozen programs: what is made of weights alone is made once, and the rest means what it meant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sympy

from crate_dsl.operators.build import combine, product
from crate_dsl.operators.cost import TRAINING, price
from crate_dsl.operators.freeze import INFERENCE, freeze, frozen_error, live_graphs, split
from crate_dsl.operators.graph import Builder, Graph, Operator, Type
from crate_dsl.operators.norms import opened, reads_whole
from crate_dsl.operators.passes import optimise_graph, stages
from crate_dsl.operators.passes.bias import RELU
from crate_dsl.operators.passes.distribute import distribute
from crate_dsl.operators.program import StepProgram
from crate_dsl.operators.uses import inputs_of
from crate_dsl.operators.verify import TOLERANCE, pass_error
from crate_dsl.operators.weights import Weights
from tests.steps import CASES, program_of

eta = sympy.Symbol("eta", real=True)


def opened_graphs() -> Iterator[tuple[str, Graph]]:
    for case, steps in CASES.items():
        for step in program_of(steps).steps:
            for graph in live_graphs(step):
                yield f"{case}-{graph.name}", opened(graph, step.derived)


GRAPHS = dict(opened_graphs())


def frozen(case: str, **overrides: int) -> StepProgram:
    return next(freeze(program_of(CASES[case], **overrides)).steps)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_every_pass_keeps_the_meaning_of_frozen_graphs(graph: Graph) -> None:
    before = graph
    for _, after in stages(graph, INFERENCE):
        assert pass_error(before, after) < TOLERANCE
        before = after
    assert pass_error(graph, before) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_the_split_graphs_are_the_lowered_ones(case: str) -> None:
    program = program_of(CASES[case])
    for before, after in zip(program.steps, freeze(program).steps, strict=True):
        assert frozen_error(before, after) < 1e-10


@pytest.mark.parametrize("case", CASES)
def test_nothing_that_takes_work_is_left_to_make_of_weights(case: str) -> None:
    for step in freeze(program_of(CASES[case])).steps:
        for graph in live_graphs(step):
            weights = Weights(graph)
            assert [str(graph[n]) for n in graph if weights.fold(n) and graph[n].kind != "diagonal"] == []


def test_a_wrong_fold_is_caught() -> None:
    program = program_of(CASES["ista"])
    before, after = next(program.steps), next(freeze(program).steps)
    other = next(freeze(program_of(CASES["ista"].replace("of eta", "of mu"))).steps)
    assert frozen_error(before, replace(after, fold=other.fold)) > 1e-3


# ---- norms -----------------------------------------------------------------------------------------------------------


def test_a_norm_that_only_products_read_is_opened() -> None:
    for case in ("official", "exact", "ista", "accelerated", "causal_exact"):
        step = frozen(case)
        read = {name for graph in live_graphs(step) for name in inputs_of(graph)}
        assert "normalised(Z)" in read and "norm(Z)" not in read, case


def test_a_norm_that_is_read_as_a_whole_stays() -> None:
    for case in ("paper", "entrywise", "tied_read_out", "held_matrices_normed"):
        step = frozen(case)
        read = {name for graph in live_graphs(step) for name in inputs_of(graph)}
        assert "norm(Z)" in read and "normalised(Z)" not in read, case
        assert not any(reads_whole([graph], step.derived) for graph in live_graphs(step)), "no quantity of it"


def test_one_product_and_one_bias_are_left() -> None:
    """Of the norm, `M = I + eta D' - eta D' D` and the threshold."""
    graph = frozen("ista").forward
    assert [graph[n].kind for n in graph if graph[n].type.batch] == ["input", "affine", "prox"]
    assert graph[graph.output].attributes[0] == RELU


# ---- the pass --------------------------------------------------------------------------------------------------------


class Small:
    """`eta U (A X + b 1')`, built by hand."""

    def __init__(self, *, shared: bool = False, rows: int = 5) -> None:
        builder = Builder("small", {"d": 5, "m": rows, "N": 7}, "N")
        u, a = (builder.add(Operator("parameter", (), Type(*shape), (n,))) for n, shape in (("U", "md"), ("A", "dd")))
        b = builder.add(Operator("parameter", (), Type("d", "1"), ("b",)))
        row = builder.add(Operator("transpose", (builder.add(Operator("ones", (), Type("N", "1"))),), Type("1", "N")))
        x = builder.add(Operator("input", (), Type("d", "N", batch=True), ("X",)))
        inner = combine(builder, [(1, product(builder, (a, x))), (1, product(builder, (b, row)))])
        result = combine(builder, [(eta, product(builder, (u, inner))), (1, x)])
        self.graph = builder.graph((("result", result), *((("inner", inner),) if shared else ())))


def test_weights_are_distributed_over_a_sum_of_products_with_weights() -> None:
    graph = distribute(Small().graph, INFERENCE)
    assert pass_error(Small().graph, graph) < TOLERANCE
    live = [graph[n] for n in graph.operators("product") if graph[n].type.batch]
    assert [len(operator.inputs) for operator in live] == [3], "eta U, A and X, to be ordered by cost"
    assert price(graph, INFERENCE) < price(Small().graph, INFERENCE)
    assert set(graph[graph.output].attributes[0]) == {1}, "eta is in the weights"


def test_only_where_weights_are_frozen() -> None:
    graph = Small().graph
    assert distribute(graph, TRAINING) is graph


def test_a_sum_that_is_read_elsewhere_is_not_made_twice() -> None:
    graph = Small(shared=True).graph
    made = distribute(graph, INFERENCE)
    assert pass_error(graph, made) < TOLERANCE
    assert sum(graph[n].type.batch for n in graph.operators("product")) == sum(
        made[n].type.batch for n in made.operators("product")
    )


def test_what_a_causal_step_holds_of_its_past_is_not_opened() -> None:
    for case in ("causal_diagonal", "causal_reduction", "causal_memberships"):
        step = next(program_of(CASES[case]).steps)
        graph = optimise_graph(opened(step.forward, step.derived), INFERENCE)
        assert {"v", "A", "Pi"} & {graph[n].attributes[0] for n in graph.operators("quantity")}, case


# ---- the split -------------------------------------------------------------------------------------------------------


def test_equal_values_of_several_graphs_are_made_once() -> None:
    graph = optimise_graph(Small().graph, INFERENCE)
    fold, first, second = split("fold", (graph, replace(graph, name="second")))
    names = [name for name, _ in fold.outputs]
    assert len(names) == len(set(names)) and str(first).partition("\n")[2] == str(second).partition("\n")[2]
    assert all("." in name for name in names), "no name of a spec"


def test_what_counts_tokens_is_not_folded() -> None:
    """Another text has another number of them."""
    for step in freeze(program_of(CASES["causal_position_logits"])).steps:
        assert all("N" not in (step.fold[n].type.rows, step.fold[n].type.cols) for n in step.fold)
