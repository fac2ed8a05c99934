"""Layers that are run again in the backward pass: the same gradients, from a fraction of what is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import crate_dsl

SPECS = Path(__file__).parents[2] / "specs"


def gradients(network: nn.Module, inputs: Tensor) -> tuple[int, list[Tensor]]:
    """What the forward pass keeps beside parameters, in numbers, and the gradients of the mean square of its output."""
    own, kept = {parameter.data_ptr() for parameter in network.parameters()}, {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = network(inputs)
        loss = (output if isinstance(output, Tensor) else output[0]).square().mean()
    return sum(kept.values()), list(torch.autograd.grad(loss, list(network.parameters())))


@pytest.mark.parametrize(
    ("spec", "preset"),
    [("crate", "digits"), ("crate_exact", "digits"), ("crate_autoencoder", "digits"), ("crate_gpt_exact", "text")],
)
def test_same_gradients_from_less(spec: str, preset: str) -> None:
    torch.manual_seed(0)
    network = crate_dsl.load(SPECS / f"{spec}.crate", preset=preset, L=4).double()
    text = network.input == "text"
    inputs = torch.randint(50, (2, 64)) if text else torch.randn(2, 1, *network.image_size, dtype=torch.float64)
    kept, wanted = gradients(network, inputs)
    network.checkpointing = True
    less, found = gradients(network, inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    assert less < 0.6 * kept
