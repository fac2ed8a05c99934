"""The cost model's matrix products against those that torch counts while it executes the written network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.loading import module_of
from crate_dsl.operators.cost import BATCH, operator_cost
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.kinds import SOFTMAX_FLOPS, entries, is_causal
from crate_dsl.operators.uses import runs
from tests.specs import small_preset

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.crate"))
BY_CHUNKS = {"prefix_solve", "causal_product"}  # algorithms with products of their own, of which costs are estimates


def _fused(query: list[int], key: list[int], value: list[int], *_: object, **__: object) -> int:
    """Scores and their product with the values; torch has no count for the fused attention of processors."""
    batch, heads, queries, features = query
    return 2 * batch * heads * queries * key[-2] * (features + value[-1])


COUNTED = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _fused}


def products(graph: Graph, number: int) -> int:
    """What the cost model says of an operator, without its bias and its softmax, which torch leaves out."""
    operator, flops = graph[number], operator_cost(graph, number).flops
    types = [graph[n].type for n in operator.inputs]
    copies = (BATCH if operator.type.batch else 1) * (graph.size(operator.type.family) if operator.type.family else 1)
    if operator.kind == "product":
        return 0 if any(each.diagonal for each in types) else flops
    if operator.kind in ("merged", "affine"):
        return flops - (len(types) > 2) * copies * entries(operator.type, graph.size)
    if operator.kind == "gram_solve":  # torch does not count its factor and the inverse of that
        return flops - copies * 2 * (graph.size(operator.type.rows) ** 3 // 3)
    if operator.kind == "attention":  # of a causal one the half that is needed; torch's convention is the whole
        half = 2 if is_causal(operator) else 1
        scores = graph.size(types[1].cols) * graph.size(types[2].cols) // half
        return half * (flops - copies * SOFTMAX_FLOPS * scores)
    return 0


def example(network: nn.Module, compilation: Compilation) -> Tensor:
    match network.input:
        case "image":
            return torch.randn(BATCH, network.channels, *network.image_size)
        case "text":
            return torch.randint(100, (BATCH, network.token_count))
    model = compilation.model
    return torch.randn(BATCH, model.tokens.count, model.sizes[model.tokens.rows])


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_products_are_those_that_torch_counts(path: Path) -> None:
    compilation = compile_spec(path, small_preset(path.read_text()), {"L": 1})
    network = getattr(module_of(compilation.text, compilation.class_name), compilation.class_name)().eval()
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
        network(example(network, compilation))
    counts = counter.get_flop_counts()
    compared = 0
    for step, graphs in (each for block in compilation.optimised.blocks for each in runs(block)):
        block, _, label = step.forward.name.partition(".")
        if not any(step.forward.operators(kind) for kind in BY_CHUNKS):
            found = sum(counts.get(f"{compilation.class_name}.{block}.0.{label}", {}).values())
            wanted = sum(products(graph, number) * times for graph, times in graphs for number in graph)
            assert found == wanted, step.forward.name
            compared += found > 0
    assert compared


def test_a_forgotten_product_would_be_seen() -> None:
    compilation = compile_spec(next(path for path in SPECS if path.stem == "crate"), "digits")
    graph = next(compilation.optimised.steps).forward
    wanted = 2 * 8 * 17 * 96 * 96  # in, and out again
    assert [products(graph, n) for kind in ("product", "merged") for n in graph.operators(kind)] == [wanted, wanted]
