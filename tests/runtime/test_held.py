"""Matrices made of weights, held over the shares of a batch: the same gradients by fewer products."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

import crate_dsl
from runtime.training.held import held_matrices
from tests.pytorch.test_made_of import LAYERS, SPEC, made, outputs


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return crate_dsl.load(SPEC, "digits", L=LAYERS).double()


def gradients(network: nn.Module, holds: bool, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Those of three passes, each with a factor of its own."""
    network.zero_grad()
    with held_matrices(network) if holds else nullcontext():
        for factor in (1, 2, 3):
            (factor * outputs(network, dtype).square().mean()).backward()
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_the_same(network: nn.Module, checkpointing: bool) -> None:
    network.checkpointing = checkpointing
    wanted = gradients(network, holds=False)
    assert len(wanted) == len(list(network.parameters()))
    torch.testing.assert_close(gradients(network, holds=True), wanted, rtol=1e-10, atol=1e-14)


def test_they_are_made_once(network: nn.Module) -> None:
    with held_matrices(network):
        assert [made(network) for _ in range(3)] == [LAYERS, 0, 0]
    assert made(network) == LAYERS


def test_weights_without_gradient_get_none(network: nn.Module) -> None:
    network.encoder[0].sparsify.D.requires_grad_(False)
    wanted = gradients(network, holds=False)
    assert "encoder.0.sparsify.D" not in wanted
    torch.testing.assert_close(gradients(network, holds=True), wanted, rtol=1e-10, atol=1e-14)


def test_in_half_precision_they_stay_in_full(network: nn.Module) -> None:
    """The sum over shares is taken in float32, as that of gradients of weights is."""
    network.float()
    wanted = gradients(network, holds=False, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        once, held = (gradients(network, holds, torch.float32) for holds in (False, True))
    name = "encoder.0.sparsify.D"
    errors = [(found[name] - wanted[name]).norm() / wanted[name].norm() for found in (once, held)]
    assert held[name].dtype == torch.float32
    assert errors[1] < 1.1 * errors[0] < 0.1


def test_an_error_within_leaves_nothing_held(network: nn.Module) -> None:
    with pytest.raises(RuntimeError), held_matrices(network):
        outputs(network).square().mean().backward()
        raise RuntimeError
    assert network.encoder[0].sparsify.D.grad is None
    assert made(network) == made(copy.deepcopy(network)) == LAYERS


def test_compiled_code_makes_its_own(network: nn.Module) -> None:
    wanted = gradients(network, holds=False)
    network.encoder[0].compile(backend="aot_eager")
    torch.testing.assert_close(gradients(network, holds=True), wanted, rtol=1e-10, atol=1e-14)
