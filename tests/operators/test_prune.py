"""The last layer for the one token that the head reads: the same value, from fewer operations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crate_dsl.certificate import first_error
from crate_dsl.compiler import compile_spec
from crate_dsl.operators.build import combine
from crate_dsl.operators.cost import TRAINING, cost
from crate_dsl.operators.graph import FIRST, Builder, Graph, Operator
from crate_dsl.operators.passes import optimise_graph
from crate_dsl.operators.prune import pruned
from crate_dsl.operators.rewrite import rebuild
from tests.steps import CASES, graphs, program_of

SPECS = Path(__file__).parents[2] / "specs"
GRAPHS = {name: graph for name, graph in graphs() if not graph.causal and graph.outputs[0][0] == "result"}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_it_is_the_first_column_of_the_whole(graph: Graph) -> None:
    whole = optimise_graph(graph)
    first = pruned(whole, TRAINING)
    if first is not None:
        assert first[first.output].type.cols == FIRST
        assert first_error(first, whole) < 1e-10
        assert cost(first).time < cost(whole).time


def test_a_wrong_one_is_caught() -> None:
    whole = optimise_graph(next(program_of(CASES["official"]).steps).forward)

    def doubled(builder: Builder, operator: Operator) -> int | None:
        if operator.kind != "attention":
            return None
        return combine(builder, [(2 * operator.attributes[0] ** 0, builder.add(operator))])

    assert first_error(rebuild(pruned(whole, TRAINING), doubled), whole) > 1e-3


def test_one_query_is_asked_of_all_keys() -> None:
    first = pruned(optimise_graph(next(program_of(CASES["official"]).steps).forward), TRAINING)
    (attention,) = first.operators("attention")
    assert [first[n].type.cols for n in first[attention].inputs] == ["N", "N", FIRST]
    assert [first[n].type.cols for n in first.operators("merged")] == [FIRST]


@pytest.mark.parametrize("frozen", [False, True])
def test_weights_act_on_the_query_and_the_answer(frozen: bool) -> None:
    """Of all tokens nothing is computed; a frozen step has biases before the softmax and in the values."""
    step = next(replace(compile_spec(SPECS / "crate.crate"), freeze=frozen).optimised.steps)
    first, whole = step.pruned, step.forward
    assert [first[n].kind for n in first if first[n].type.cols == "N"] == ["input"] * 2  # raw and normed
    assert first_error(first, whole) < 1e-10
    assert cost(first).flops < cost(whole).flops / 20


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ("crate", ["compress", "sparsify"]),
        ("crate_mae", []),
        ("crate_gpt", []),
        ("crate_exact", ["compress", "sparsify"]),
        ("crate_alpha", ["compress"]),
    ],
)
def test_only_before_a_head_that_reads_the_class_token(spec: str, labels: list[str]) -> None:
    """The last step that mixes tokens, and behind it what else than collecting weights pays for one token."""
    program = compile_spec(SPECS / f"{spec}.crate").optimised
    assert [step.derived.step.label for step in program.steps if step.pruned] == labels


def test_one_token_by_itself_collects_no_weights() -> None:
    """For many tokens `M = I + eta D' - eta D'D` is made."""
    *_, step = compile_spec(SPECS / "crate_gpt.crate").optimised.steps
    assert first_error(step.single, step.forward) < 1e-10
    assert cost(step.single, 1).flops < cost(step.forward, 1).flops / 100
    assert not any(o.kind == "product" and not o.type.batch for o in map(step.single.__getitem__, step.single))


@pytest.mark.parametrize(("spec", "frozen"), [("crate_mae", False), ("crate_gpt", True)])
def test_where_tokens_come_together_or_weights_are_there_one_has_no_graph(spec: str, frozen: bool) -> None:
    program = replace(compile_spec(SPECS / f"{spec}.crate"), freeze=frozen).optimised
    assert not any(step.single for step in program.steps)


def test_one_token_gains_nothing() -> None:
    whole = optimise_graph(next(program_of(CASES["official"]).steps).forward)
    alone = replace(whole, sizes={**whole.sizes, whole.tokens: 1})
    assert pruned(alone, TRAINING) is None
