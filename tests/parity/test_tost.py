"""ToST against its official code: the attention, the whole block, every gradient, to 1e-10; and its cost in tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crate_dsl.compiler import Compilation, compile_spec
from crate_dsl.errors import Source
from crate_dsl.loading import module_of
from crate_dsl.operators.cost import cost
from crate_dsl.operators.graph import Graph
from tests.parity.test_parity import Golden, assert_close

SPEC = Path(__file__).parents[2] / "specs" / "tost.crate"
SIZES = {"image": 8, "patch": 4, "channels": 1, "classes": 5, "d": 24, "K": 3, "L": 2, "m": 96, "drop": 0}
TSSA = """network Tssa
size image = 8, patch = 4, channels = 1, d = 24, K = 3, p = 8
energy rate(Z: d x N | U: K of d x p, Pi: K of N x 1) = 1/2 * sum(k in K) (total(Pi[k]) + 1e-8) / N
    * total(log1p((U[k]' * Z) .^ 2 * Pi[k] / (total(Pi[k]) + 1e-8)))
input image(channels, image, image)
tokens Z: d x N = patches(patch)
encoder {
    learn temp = 1 per head
    compress Z by rate(Z | U, Pi) {
        let Pi[k in K] = softmax(k in K) temp * column_sums(unit_rows(U[k]' * Z) .^ 2)'
        coefficients ~ absorbed; adjoint ~ free(bias)
    }
}
head patches
"""
ATTENTION = {"U": "qkv.weight", "U_out": "to_out.0.weight", "U_bias": "to_out.0.bias", "temp": "temp"}
BLOCK = {
    "compress_variational_rate": {
        **{ours: f"attn.{theirs}" for ours, theirs in ATTENTION.items()},
        "b": "attn.qkv.bias", "gamma": "gamma1", "norm.weight": "norm1.weight", "norm.bias": "norm1.bias",
    },
    "compress_feed_forward": {
        "W": "mlp.fc1.weight", "c": "mlp.fc1.bias", "W_out": "mlp.fc2.weight", "W_bias": "mlp.fc2.bias",
        "gamma2": "gamma2", "norm.weight": "norm2.weight", "norm.bias": "norm2.bias",
    },
}  # fmt: skip


def in_our_layout(name: str, value: Tensor) -> Tensor:
    """Outer maps stand before the tokens; the bias of the attention is subtracted with its operator."""
    match name.rpartition(".")[2]:
        case "U_out" | "W":
            return value.T
        case "U_bias":
            return -value
        case "b":
            return value.reshape(3, 8)
        case "temp":
            return value.reshape(3)
    return value


def loaded(module: nn.Module, golden: Golden, names: dict[str, str]) -> nn.Module:
    parameters = golden("param")
    assert set(names.values()) == set(parameters)
    module.load_state_dict({ours: in_our_layout(ours, parameters[theirs]) for ours, theirs in names.items()})
    return module


def assert_gradients(module: nn.Module, golden: Golden, names: dict[str, str], tokens: Tensor) -> None:
    assert_close(tokens.grad, golden("grad_in")["x"])
    for ours, parameter in module.named_parameters():
        assert_close(parameter.grad, in_our_layout(ours, golden("grad")[names[ours]]))


def network_of(compilation: Compilation) -> nn.Module:
    return getattr(module_of(compilation.text, compilation.class_name), compilation.class_name)().double()


def test_attention() -> None:
    golden = Golden("tssa")
    step = loaded(network_of(Compilation(Source("tssa.crate", TSSA), None, {})).encoder[0].compress, golden, ATTENTION)
    tokens = golden("in")["x"].requires_grad_()
    result = step(tokens) - tokens
    assert_close(result, golden("out")["y"])
    result.square().sum().backward()
    assert_gradients(step, golden, ATTENTION, tokens)


def test_block() -> None:
    golden = Golden("tost_block")
    names = {f"{label}.{ours}": theirs for label, step in BLOCK.items() for ours, theirs in step.items()}
    layer = loaded(network_of(compile_spec(SPEC, None, SIZES)).encoder[0], golden, names)
    tokens = golden("in")["x"].requires_grad_()
    half = layer.compress_variational_rate(tokens)
    assert_close(half, golden("out")["half"])
    result = layer(tokens)
    assert_close(result, golden("out")["y"])
    result.square().sum().backward()
    assert_gradients(layer, golden, names, tokens)


def test_a_missing_sign_is_noticed() -> None:
    golden = Golden("tost_block")
    names = {f"{label}.{ours}": theirs for label, step in BLOCK.items() for ours, theirs in step.items()}
    layer = loaded(network_of(compile_spec(SPEC, None, SIZES)).encoder[0], golden, names)
    with torch.no_grad():
        layer.compress_variational_rate.U_bias.neg_()
    with pytest.raises(AssertionError), torch.no_grad():
        assert_close(layer(golden("in")["x"]), golden("out")["y"])


def test_the_exact_step_is_the_gradient_with_memberships_held() -> None:
    """Autograd of the written energy, its memberships computed from other tokens, which are detached."""
    exact = TSSA.replace("coefficients ~ absorbed; adjoint ~ free(bias)", "step 2")
    step = network_of(Compilation(Source("tssa.crate", exact), None, {})).encoder[0].compress
    tokens = torch.randn(2, 4, 24, dtype=torch.float64, requires_grad=True)
    (held,) = torch.autograd.grad(step.energy(tokens, tokens.detach()).sum(), tokens)
    torch.testing.assert_close(step(tokens), tokens - 2 * held, rtol=1e-10, atol=1e-12)
    (whole,) = torch.autograd.grad(step.energy(tokens).sum(), tokens)
    assert not torch.allclose(whole, held, rtol=1e-3), "the memberships depend on the tokens"


def forward_graph(side: int) -> Graph:
    compilation = compile_spec(SPEC, "tiny", {"image": 4 * side, "patch": 4, "channels": 1})
    return next(compilation.optimised.steps).forward


def test_the_cost_is_linear_in_the_tokens() -> None:
    """Per token the step costs the same at 16, 64 and 256 tokens; what is left over does not depend on them."""
    flops = [cost(forward_graph(side)).flops for side in (4, 8, 16)]
    assert (flops[2] - flops[1]) / (256 - 64) == (flops[1] - flops[0]) / (64 - 16)
    graph = forward_graph(16)
    square = [n for n in graph if (graph[n].type.rows, graph[n].type.cols) == ("N", "N")]
    assert not square and not graph.operators("diagonal")
