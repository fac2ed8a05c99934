"""torch.func on written files: gradients per sample, Jacobians, and ensembles, as of any other module."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

import crate_dsl
from runtime.bench.workload import workload
from runtime.network import compile_network
from tests.pytorch.running import network_of, written
from tests.specs import small_preset
from tests.steps import CASES, program_of

SPECS = sorted((Path(__file__).parents[2] / "specs").glob("*.crate"))
LEARNED = [path for path in SPECS if path.stem != "redunet"]  # which is constructed from data
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
Weights = dict[str, Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch loops over its fused attention


def network_and_inputs(path: Path) -> tuple[nn.Module, tuple[Tensor, ...]]:
    compiled = compile_network(path, small_preset(path.read_text()), {})
    network = compiled.module.double().eval()
    work = workload(network, compiled.shape, 2, "float64").double()
    return network, (work.batch.inputs,) if work.draw is None else (work.batch.inputs, work.draw)


def call(network: nn.Module, weights: Weights, *inputs: Tensor) -> Tensor:
    result = functional_call(network, weights, inputs)
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("path", LEARNED, ids=lambda path: path.stem)
def test_gradients_per_sample_and_ensembles(path: Path) -> None:
    network, inputs = network_and_inputs(path)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}

    def loss(weights: Weights, *sample: Tensor) -> Tensor:
        return call(network, weights, *(x.unsqueeze(0) for x in sample)).square().sum()

    found = vmap(grad(loss), (None, *(0 for _ in inputs)))(weights, *inputs)
    for number, sample in enumerate(zip(*inputs, strict=True)):
        leaves = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        gradients = torch.autograd.grad(loss(leaves, *sample), list(leaves.values()), materialize_grads=True)
        for name, gradient in zip(leaves, gradients, strict=True):
            if "projection" not in name:  # torch 2.13 takes wrong gradients through a batch norm, also by itself
                torch.testing.assert_close(
                    found[name][number], gradient, **CLOSE, msg=lambda text, name=name: name + text
                )

    with torch.no_grad():
        several = vmap(lambda weights: call(network, weights, *inputs))(
            {n: torch.stack([w, 2 * w]) for n, w in weights.items()}
        )
        for number, factor in enumerate((1, 2)):
            wanted = call(network, {name: factor * weight for name, weight in weights.items()}, *inputs)
            torch.testing.assert_close(several[number], wanted, **CLOSE)


@pytest.mark.parametrize(
    "steps",
    [CASES["memberships"], "sparsify Z by lasso(A | Z, D) { norm layer; from Z; steps 1 of gamma }"],
    ids=["a bias", "a threshold"],
)
def test_gradients_of_an_ensemble_as_a_whole(steps: str) -> None:
    """What is added to a product of normed tokens is batched there, and does not say itself that it is learned."""
    network = network_of(program_of(steps))
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    several = {name: torch.stack([weight, 1.1 * weight + 0.01]) for name, weight in weights.items()}

    def loss(weights: Weights) -> Tensor:
        return call(network, weights, images).square().sum()

    found = grad(lambda several: vmap(loss)(several).sum())(several)
    for number in range(2):
        wanted = grad(loss)({name: weight[number] for name, weight in several.items()})
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name][number], gradient, **CLOSE)


def test_attention_with_a_backward_pass_of_its_own() -> None:
    """That of half precision, here in float64."""
    module, w = written(program_of(CASES["official"])), torch.randn(2, 1, 3, 7, 4, dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:
        return module.SharedAttention.apply(w, 0.7, False).pow(3).sum()

    wanted = torch.stack([torch.autograd.grad(loss(one), one)[0] for one in w.clone().requires_grad_().unbind()])
    torch.testing.assert_close(vmap(grad(loss))(w), wanted, **CLOSE)


def test_jacobian_of_a_network() -> None:
    network = crate_dsl.load(SPECS[0].parent / "crate_exact.crate", "digits", L=1).double()
    images = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(jacrev(network)(images), torch.autograd.functional.jacobian(network, images), **CLOSE)
