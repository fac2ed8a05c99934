"""Operations and parameters are counted, not guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from crate_dsl.library.atoms import ATOMS
from crate_dsl.library.functions import FUNCTIONS
from crate_dsl.operators import cost as cost_module
from crate_dsl.operators.cost import Workload, chain_order, cost, operator_cost, price, table
from crate_dsl.operators.graph import Type
from crate_dsl.operators.kinds import KINDS
from crate_dsl.operators.lower import lower
from crate_dsl.operators.passes import optimise, optimise_graph
from crate_dsl.operators.summary import summary
from tests.specs import derived
from tests.steps import CASES, program_of

SPECS = Path(__file__).parents[2] / "specs"


def test_a_product_takes_two_operations_per_multiplication() -> None:
    graph = next(program_of(CASES["synthesis"]).steps).forward
    (product,) = graph.operators("product")
    assert operator_cost(graph, product, batch=2).flops == 2 * 2 * 12 * 12 * 17


def test_weights_cost_once_whatever_the_batch() -> None:
    graph = optimise_graph(next(program_of(CASES["ista"]).steps).forward, Workload(64))
    weights = sum(operator_cost(graph, n, 1).flops for n in graph if not graph[n].type.batch)
    assert cost(graph, 20).flops - cost(graph, 10).flops == cost(graph, 10).flops - weights


def test_chains_are_ordered_by_cost() -> None:
    graph = next(program_of(CASES["ista"]).steps).forward
    weights, tokens = Type("d", "d"), Type("d", "N", batch=True)
    assert chain_order(graph, (weights, weights, tokens), Workload(1000))[1] == ((0, 1), 2)
    assert chain_order(graph, (weights, weights, Type("d", "1", batch=True)), Workload(1))[1] == (0, (1, 2))


def test_what_an_operation_costs_is_found_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes price hundreds of graphs that differ in a few operators."""
    first, second = (next(program_of(CASES["official"]).steps).forward for _ in range(2))
    expected = price(first, Workload(3))
    monkeypatch.setattr(cost_module, "operator_cost", lambda *_: pytest.fail("this shape was priced before"))
    assert price(second, Workload(3)) == expected


def test_the_table_prints_every_operator() -> None:
    graph = next(program_of(CASES["official"]).steps).forward
    text = table(graph)
    assert all(f"%{number} = " in text for number in graph)
    assert "FLOP" in text.splitlines()[0]


@pytest.mark.parametrize(
    ("spec", "preset", "parameters"),
    [("crate", "tiny", 6_090_856), ("crate", "base", 22_796_008), ("crate_mae", "tiny", 11_256_192)],
)
def test_parameters_of_the_official_networks(spec: str, preset: str, parameters: int) -> None:
    text = (SPECS / f"{spec}.crate").read_text()
    found = summary(optimise(lower(derived(text, preset=preset))))
    assert found.parameters == parameters
    assert f"{parameters:,}" in str(found)


def test_a_layer_counts_as_often_as_it_repeats() -> None:
    text = (SPECS / "crate.crate").read_text()
    few, many = (summary(lower(derived(text, L=layers))) for layers in (12, 96))
    compress = [next(row for row in s.rows if row.step == "compress") for s in (few, many)]
    assert compress[1].parameters == 8 * compress[0].parameters
    assert compress[1].flops == 8 * compress[0].flops


def test_every_function_and_reduction_of_the_library_has_a_meaning() -> None:
    assert {"function", "reduce", "logdet"} <= KINDS.keys()
    assert FUNCTIONS and ATOMS
