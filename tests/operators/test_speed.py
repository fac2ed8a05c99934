"""What is told of the passes is what they did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crate_dsl.operators.cost import Workload, cost, price, quantity
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.passes import PASSES, optimise, optimise_graph
from crate_dsl.operators.rewrite import rebuild
from crate_dsl.operators.speed import FROZEN, PREFIX, emitted, history, same, speed
from crate_dsl.operators.summary import summary
from tests.steps import CASES, graphs, program_of

WORKLOAD = Workload()
GRAPHS = dict(graphs())


def told(case: str, workload: Workload = WORKLOAD) -> str:
    program = program_of(CASES[case])
    return speed(program, optimise(program, workload), workload)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_every_pass_is_told_once(graph: Graph) -> None:
    found = history(graph, WORKLOAD)
    names = [stage.name for stage in found.stages[1:]]
    assert sorted([*names, *found.idle]) == sorted(each.name for each in PASSES)
    assert same(found.stages[-1].graph, optimise_graph(graph))
    assert not any(same(a.graph, b.graph) for a, b in zip(found.stages, found.stages[1:], strict=False))


def test_sameness_is_of_operators_not_of_their_numbers() -> None:
    graph = next(program_of(CASES["ista"]).steps).forward
    moved = rebuild(graph, lambda builder, operator: None)
    assert same(graph, moved)
    sums = next(graph[n] for n in graph if graph[n].kind == "combine")
    turned = replace(sums, attributes=(tuple(-c for c in sums.attributes[0]),))
    assert not same(graph, rebuild(graph, lambda builder, op: builder.add(turned) if op == sums else None))
    assert not same(graph, replace(graph, causal=True))


def test_every_pass_says_what_it_does_in_a_few_words() -> None:
    assert len({each.does for each in PASSES}) == len(PASSES)
    assert all(8 < len(each.does) <= 80 and "\n" not in each.does for each in PASSES)


def test_the_rows_are_the_costs_of_the_graphs() -> None:
    text, graph = told("ista"), next(program_of(CASES["ista"]).steps).forward
    for name, each in (("as lowered", graph), ("as written", optimise_graph(graph))):
        own, now = cost(each), price(each, WORKLOAD)
        row = next(line for line in text.splitlines() if line.startswith(f"  {name}"))
        assert all(quantity(value).strip() in row for value in (own.flops, own.bytes, now))
    gain = price(graph, WORKLOAD) / price(optimise_graph(graph), WORKLOAD)
    assert f"{gain:.2f} x  all passes together" in text


def test_the_network_is_the_sum_of_its_layers() -> None:
    program = program_of(CASES["official"])
    text, found = told("official"), summary(optimise(program))
    steps = sum(cost(step.forward).flops // 8 * step.block.repeat for step in optimise(program).steps)
    assert f"take another {quantity(found.flops - steps)}FLOP" in text
    (total,) = (line for line in text.splitlines() if line.startswith("  total"))
    assert quantity(steps).strip() in total


def test_a_ratio_is_never_given_across_the_causal_pass() -> None:
    text = told("causal")
    rows = [line for line in text.splitlines() if line.startswith(("  causal ", "  as written ", "  encoder."))]
    assert PREFIX in text and len(rows) == 3 and all("  -" in row for row in rows)
    assert PREFIX not in told("ista")


def test_what_is_made_once_has_no_price() -> None:
    assert FROZEN in told("ista", Workload(8, frozen=True)) and FROZEN not in told("ista")


def test_every_operator_is_printed_before_and_after() -> None:
    program = program_of(CASES["official"])
    text = emitted(program, WORKLOAD)
    for graph in program.graphs:
        for stage in history(graph, WORKLOAD).stages:
            assert all(f"%{number} = {stage.graph[number]}" in text for number in stage.graph)
            assert stage.reason in text and stage.does in text
    assert "# encoder.compress, as lowered" in text and "# encoder.compress, after attention" in text
