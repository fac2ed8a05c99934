"""Causal ToST against its official code, gradients included, to 1e-10; token by token; and its cost in tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.operators.cost import cost
from tests.parity.test_parity import Golden, assert_close
from tests.parity.test_tost import network_of

SPEC = Path(__file__).parents[2] / "specs" / "tost_causal.crate"
SIZES = {"length": 16, "vocabulary": 64, "d": 24, "K": 3, "L": 1}
ATTENTION = {
    "U": "c_attn.weight", "b": "c_attn.bias", "bias": "denom_bias", "temp": "temp", "U_out": "c_proj.weight",
    "U_bias": "c_proj.bias",
}  # fmt: skip
BLOCK = {
    "compress_variational_rate": {
        **{ours: f"attn.{theirs}" for ours, theirs in ATTENTION.items()},
        "gamma": "gamma1", "norm.weight": "ln_1.weight", "norm.bias": "ln_1.bias",
    },
    "compress_feed_forward": {
        "W": "mlp.c_fc.weight", "c": "mlp.c_fc.bias", "W_out": "mlp.c_proj.weight", "W_bias": "mlp.c_proj.bias",
        "gamma2": "gamma2", "norm.weight": "ln_2.weight", "norm.bias": "ln_2.bias",
    },
}  # fmt: skip
NAMES = {f"{label}.{ours}": theirs for label, step in BLOCK.items() for ours, theirs in step.items()}


def in_our_layout(name: str, value: Tensor) -> Tensor:
    """Outer maps stand before the tokens; the bias of the statistics is subtracted with its operator."""
    match name.rpartition(".")[2]:
        case "U_out" | "W":
            return value.T
        case "U_bias":
            return -value
        case "b":
            return value.reshape(3, 8)
        case "bias" if "norm" not in name:
            return value.reshape(3, 16)
        case "temp":
            return value.reshape(3)
    return value


def loaded(golden: Golden, names: dict[str, str]) -> nn.Module:
    layer = network_of(compile_spec(SPEC, None, SIZES)).encoder[0]
    parameters = golden("param")
    assert set(names.values()) == set(parameters)
    layer.load_state_dict({n: in_our_layout(n, parameters[t]) for n, t in names.items()}, strict=False)
    return layer


def assert_gradients(layer: nn.Module, golden: Golden, names: dict[str, str], tokens: Tensor) -> None:
    assert_close(tokens.grad, golden("grad_in")["x"])
    parameters = dict(layer.named_parameters())
    for ours, theirs in names.items():
        assert_close(parameters[ours].grad, in_our_layout(ours, golden("grad")[theirs]))


def test_statistics() -> None:
    """The operator alone: its norm the identity, its scale one."""
    golden = Golden("tssa_causal")
    names = {f"compress_variational_rate.{ours}": theirs for ours, theirs in ATTENTION.items()}
    layer = loaded(golden, names)
    step, tokens = layer.compress_variational_rate, golden("in")["x"].requires_grad_()
    step.norm = nn.Identity()
    nn.init.ones_(step.gamma)
    result = step(tokens) - tokens
    assert_close(result, golden("out")["y"])
    result.square().sum().backward()
    assert_gradients(layer, golden, names, tokens)


def test_block() -> None:
    golden = Golden("tost_lang_block")
    layer, tokens = loaded(golden, NAMES), golden("in")["x"].requires_grad_()
    assert_close(layer.compress_variational_rate(tokens), golden("out")["half"])
    result = layer(tokens)
    assert_close(result, golden("out")["y"])
    result.square().sum().backward()
    assert_gradients(layer, golden, NAMES, tokens)


def test_one_token_after_another() -> None:
    golden, memory = Golden("tost_lang_block"), {}
    step, tokens = loaded(golden, NAMES).compress_variational_rate, golden("in")["x"]
    found = [step.advance(tokens[:, t : t + 1], memory) for t in range(tokens.shape[1])]
    assert_close(torch.cat(found, dim=1), golden("out")["half"])
    assert all(held.shape[-2] == 1 for held in memory.values() if isinstance(held, Tensor)), "of constant size"


@pytest.fixture(scope="module")
def compilation() -> Compilation:
    return compile_spec(SPEC, "text")


def test_the_cost_is_linear_in_the_tokens(compilation: Compilation) -> None:
    graph = next(iter(compilation.optimised.steps)).forward
    flops = [cost(replace(graph, sizes={**graph.sizes, "N": n})).flops for n in (1024, 2048)]
    assert flops[1] < 2.001 * flops[0] and not any(graph[n].type.rows == graph[n].type.cols == "N" for n in graph)


def test_no_prediction_depends_on_later_words(compilation: Compilation) -> None:
    network, words = network_of(compilation), torch.randint(256, (2, 60))
    later = words.clone()
    later[:, 40:] = (later[:, 40:] + 1) % 256
    before, after = network(words), network(later)
    assert torch.equal(before[:, :40], after[:, :40]) and not torch.equal(before[:, 40:], after[:, 40:])
    assert network.causal is True
