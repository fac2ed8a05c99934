"""Small networks in float64 whose every matrix is random, and inputs for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import crate_dsl
from tests.runtime.conftest import SPECS

SIZES = {"d": 12, "K": 2, "L": 2}
IMAGE = {"image": 8, "patch": 2, "channels": 1}


def small(spec: str, seed: int = 0, **sizes: int | float) -> tuple[crate_dsl.Compilation, nn.Module]:
    """The compilation of a shipped spec at small sizes and its network in evaluation mode, nothing masked."""
    text = (SPECS / f"{spec}.crate").read_text()
    front = IMAGE if "input  image" in text or "input image" in text else {}
    compilation = crate_dsl.compile_spec(SPECS / f"{spec}.crate", overrides=front | SIZES | sizes)
    torch.manual_seed(seed)
    network = getattr(crate_dsl.module_of(compilation.text, compilation.class_name), compilation.class_name)().double()
    with torch.no_grad():
        for parameter in network.parameters():  # biases and gains that start as zeros or ones would hide mistakes
            parameter.add_(0.1 * torch.randn_like(parameter))
    if network.mask_ratio:
        network.mask_ratio = 0.0
    return compilation, network.eval().requires_grad_(False)


def inputs_of(network: nn.Module, count: int = 3, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if network.input == "image":
        return torch.randn(count, network.channels, *network.image_size, generator=generator, dtype=torch.float64)
    if network.input == "text":
        return torch.randint(network.vocabulary, (count, network.token_count), generator=generator)
    shape = (count, network.vector_count, network.vector_length)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
