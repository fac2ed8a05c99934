"""Layers of the written file against the official blocks: outputs, parameter gradients and input gradients to 1e-10."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from crate_dsl.compiler import Compilation
from crate_dsl.errors import Source
from crate_dsl.loading import module_of
from tests.parity.test_parity import Golden, assert_close
from tests.specs import COMPRESS, HEADER, MSSA, SPARSIFY, encoder, spec

ENCODER = encoder(COMPRESS + SPARSIFY)
ASCENT = f"denoise Z by rate(Z, U) {{ {MSSA} }}\n"
EXPLICIT = "decoder repeat L {\ndenoise Z by lasso(Z | X, D) { norm layer }\n" + ASCENT + "}\n"
SHARED = {"norm.weight": "norm.weight", "norm.bias": "norm.bias"}
OUTER = SHARED | {"U": "fn.qkv.weight", "U_out": "fn.to_out.0.weight", "U_bias": "fn.to_out.0.bias"}
INNER = SHARED | {"U": "fn.qkv.weight"}
DICTIONARY = SHARED | {"D": "fn.weight"}


@dataclass(frozen=True)
class Case:
    """The blocks of a spec, the layer to take, and its steps in the official order with their parameters' names."""

    body: str
    role: str
    steps: Mapping[str, Mapping[str, str]]
    sizes: Mapping[str, int]


CASES = {
    "encoder_block": Case(ENCODER, "encoder", {"compress": OUTER, "sparsify": DICTIONARY}, {}),
    "encoder_block_1head": Case(
        ENCODER.replace("free(bias)", "dropped"),
        "encoder",
        {"compress": INNER, "sparsify": DICTIONARY},
        {"d": 20, "K": 1, "p": 20},
    ),
    "decoder_block": Case(
        ENCODER + "decoder = inverse(encoder)\n", "decoder", {"denoise_lasso": DICTIONARY, "denoise_rate": OUTER}, {}
    ),
    "decoder_block_nosoftmax": Case(
        EXPLICIT.replace("softmax", "scaled"), "decoder", {"denoise_lasso": DICTIONARY, "denoise_rate": OUTER}, {}
    ),
}


def layer_of(case: Case) -> nn.Module:
    compilation = Compilation(Source("block.crate", spec(case.body)), None, case.sizes)
    return getattr(module_of(compilation.text, "Tiny").Tiny().double(), case.role)[0]


def official_names(case: Case) -> dict[str, str]:
    """Our parameters to the official ones, by step."""
    return {
        f"{label}.{ours}": f"layers.0.{number}.{theirs}"
        for number, (label, names) in enumerate(case.steps.items())
        for ours, theirs in names.items()
    }


def in_our_layout(name: str, value: Tensor) -> Tensor:
    return value.T if name.endswith("U_out") else value


@pytest.mark.parametrize("name", CASES)
def test_block(name: str) -> None:
    case, golden = CASES[name], Golden(name)
    layer, names = layer_of(case), official_names(case)
    parameters, gradients, inputs = golden("param"), golden("grad"), golden("in")
    assert set(names.values()) == set(parameters)
    layer.load_state_dict({ours: in_our_layout(ours, parameters[theirs]) for ours, theirs in names.items()})
    key = next(iter(inputs))
    tokens = inputs[key].requires_grad_()
    result = layer(tokens)
    assert_close(result, golden("out")[key])
    result.square().sum().backward()
    assert_close(tokens.grad, golden("grad_in")[key])
    for ours, parameter in layer.named_parameters():
        assert_close(parameter.grad, in_our_layout(ours, gradients[names[ours]]))


ODL = """energy overcomplete(A: m x N | X: d x N, D: d x m) =
    1/2 * norm2(X - D * A) + lambda * l1(A) + nonnegative(A)
"""


def test_overcomplete_block() -> None:
    """Two ISTA steps from zero on an over-complete dictionary: the code and its read-out, with all gradients."""
    golden = Golden("crate_alpha_odl")
    body = encoder("sparsify Z by overcomplete(A | Z, D) { from 0; steps 2 of eta; read D1 }\n")
    text = spec(body, header=HEADER.replace("lambda = 0.5", "lambda = 0.1") + "size m = 4 * d\n", energies=ODL)
    compilation = Compilation(Source("block.crate", text), None, {})
    step = module_of(compilation.text, "Tiny").Tiny().double().encoder[0].sparsify
    step.load_state_dict(golden("param"))
    tokens, out = golden("in")["x"].requires_grad_(), golden("out")
    result = step(tokens)
    assert_close(result, out["xhat"])
    assert_close(step.code(tokens), out["z2"])
    result.square().sum().backward()
    assert_close(tokens.grad, golden("grad_in")["x"])
    for name, parameter in step.named_parameters():
        assert_close(parameter.grad, golden("grad")[name])


def test_a_transposed_dictionary_is_noticed() -> None:
    case, golden = CASES["encoder_block"], Golden("encoder_block")
    layer, parameters = layer_of(case), golden("param")
    state = {ours: in_our_layout(ours, parameters[theirs]) for ours, theirs in official_names(case).items()}
    layer.load_state_dict(state | {"sparsify.D": state["sparsify.D"].T})
    with pytest.raises(AssertionError), torch.no_grad():
        assert_close(layer(golden("in")["Z"]), golden("out")["Z"])
