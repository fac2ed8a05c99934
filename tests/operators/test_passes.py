"""Every pass keeps the meaning of every graph; and each does what it is there for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy

from crate_dsl.operators.build import combine, product
from crate_dsl.operators.cost import Workload, cost
from crate_dsl.operators.graph import Builder, Graph, Operator, Type
from crate_dsl.operators.passes import PASSES, optimise_graph, stages
from crate_dsl.operators.passes.share import share
from crate_dsl.operators.rewrite import rebuild
from crate_dsl.operators.verify import TOLERANCE, pass_error
from tests.steps import CASES, graphs, program_of

GRAPHS = dict(graphs())


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_every_pass_keeps_the_meaning(graph: Graph) -> None:
    before = graph
    for _, after in stages(graph):
        assert pass_error(before, after) < TOLERANCE
        before = after
    assert pass_error(graph, before) < TOLERANCE


def _wrong(graph: Graph, kind: str) -> Graph:
    """A planted pass: drops a transpose of a square matrix, or turns a sign."""

    def rule(builder: Builder, operator: Operator) -> int | None:
        if operator.kind != kind:
            return None
        if kind == "transpose":
            return operator.inputs[0] if operator.type.is_square else None
        signs = tuple(-c for c in operator.attributes[0])
        return builder.add(replace(operator, attributes=(signs,)))

    return rebuild(graph, rule)


@pytest.mark.parametrize("kind", ["transpose", "combine"])
def test_a_wrong_pass_is_caught(kind: str) -> None:
    graph = next(program_of(CASES["ista"]).steps).forward
    assert pass_error(graph, _wrong(graph, kind)) > 1e-3


def test_every_pass_has_a_reason_for_its_place() -> None:
    assert len({each.name for each in PASSES}) == len(PASSES)
    assert all(each.reason for each in PASSES)


def optimised(case: str, batch: int = 8, **overrides: int) -> Graph:
    return optimise_graph(next(program_of(CASES[case], **overrides).steps).forward, Workload(batch))


def test_attention_is_one_operator_on_one_projection() -> None:
    graph = optimised("official")
    (attention,) = graph.operators("attention")
    assert len(set(graph[attention].inputs)) == 1
    assert len(graph.operators("merged")) == 1
    assert not graph.operators("function")


def test_the_smaller_side_is_solved() -> None:
    graph = optimised("exact")
    assert [graph[n].type.rows for n in graph.operators("gram_solve")] == ["p"]
    graph = optimised("exact", p=40)
    (solve,) = graph.operators("solve")
    assert graph[graph[solve].inputs[0]].type.rows == "N"
    assert graph[solve].attributes == (True,), "a Cholesky solve"


def test_a_scalar_of_unknown_sign_forbids_cholesky() -> None:
    graph = optimised("unknown_sign")
    assert [graph[n].attributes for n in graph.operators("solve")] == [(False,)]


@pytest.mark.parametrize(("batch", "products"), [(64, 1), (1, 2)])
def test_weights_are_hoisted_when_tokens_outnumber_features(batch: int, products: int) -> None:
    graph = optimised("ista", batch, d=48)
    maps = [n for kind in ("product", "affine") for n in graph.operators(kind) if graph[n].type.batch]
    assert len(maps) == products


def test_what_values_have_in_common_is_transposed_once() -> None:
    """Written out, the last value of this graph has a million million factors."""
    builder = Builder("nested", {"d": 4, "N": 3}, "N")
    weights = value = builder.add(Operator("parameter", (), Type("d", "d"), ("W",)))
    for _ in range(40):
        terms = [(sympy.Integer(1), product(builder, (value, weights))), (sympy.Integer(2), value)]
        value = combine(builder, [*terms, (sympy.Integer(3), product(builder, (weights, value)))])
    graph = builder.graph((("result", value),))
    assert len(list(share(graph, Workload()))) == len(list(graph))


def test_log_determinants_are_taken_on_the_smaller_side() -> None:
    step = next(program_of(CASES["exact_beta"]).steps)
    graph = optimise_graph(step.energy)
    (logdet,) = graph.operators("logdet")
    assert graph[graph[logdet].inputs[0]].type.rows == "p"
    assert graph[logdet].attributes == (True,)


def test_no_pass_makes_a_graph_dearer() -> None:
    """But for the one that makes a causal graph compute all prefixes, since its cost is that of the longest alone."""
    for graph in (graph for graph in GRAPHS.values() if not graph.causal):
        before = cost(graph)
        assert cost(optimise_graph(graph)).time <= before.time * 1.001, graph.name


def test_names_do_not_matter() -> None:
    """An energy called `foo` with parameters of any name becomes the same graph."""
    steps = CASES["official"]
    other = steps.replace("rate(Z, U)", "rate(Z, softmax_)")
    plain, renamed = (optimise_graph(next(program_of(s).steps).forward) for s in (steps, other))
    assert [plain[n].kind for n in plain] == [renamed[n].kind for n in renamed]
