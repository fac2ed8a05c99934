"""Whether what was exported computes what the network computes, on inputs of several batch sizes."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from runtime import seeds
from runtime.errors import UserError

BATCHES = (1, 3, 5)  # an exporter may take a batch of one for a constant
EXAMPLE = 3  # the batch that is traced
TOLERANCE = 1e-3  # of the largest output: rounding of other orders of sums in float32, through many layers
OUTPUTS = {  # names of what a network gives, by its kind
    "classify": ("logits",),
    "language": ("logits",),
    "masked_language": ("logits", "mask"),
    "mae": ("patches", "mask"),
    "reconstruct": ("patches",),
    "features": ("features",),
    "tokens": ("tokens",),
}

Inputs = dict[str, Tensor]  # by the name of the argument


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' remarks on their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def library(name: str, what: str) -> ModuleType:
    """A library that an export needs and that is not installed with the rest; raises UserError where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UserError(f"{what} needs the library {name}: pip install 'crate-dsl[export]'") from None


def inputs_of(network: nn.Module, batch: int) -> Inputs:
    """Inputs drawn at random, the same in every call: images, text or vectors, and the noise of a mask."""
    generator = seeds.torch_generator(seeds.HELD_OUT, batch)
    match network.input:
        case "image":
            first = torch.randn(batch, network.channels, *network.image_size, generator=generator)
        case "text":
            first = torch.randint(network.vocabulary, (batch, network.token_count), generator=generator)
        case _:
            first = torch.randn(batch, network.vector_count, network.vector_length, generator=generator)
    name = {"image": "images", "text": "text"}.get(network.input, "vectors")
    return {name: first} | ({"noise": noise_of(network, batch, generator)} if network.mask_ratio else {})


def noise_of(network: nn.Module, batch: int, generator: torch.Generator) -> Tensor:
    """Which patches or tokens are hidden, (batch, number of them); a class token is never hidden."""
    return torch.rand(batch, network.token_count - int(hasattr(network, "class_token")), generator=generator)


def outputs_of(network: nn.Module, inputs: Inputs) -> tuple[Tensor, ...]:
    with torch.no_grad():
        result = network(**inputs)
    return result if isinstance(result, tuple) else (result,)


def largest_error(what: str, network: nn.Module, other: Callable[[Inputs], Mapping[str, Tensor]]) -> float:
    """The largest absolute difference between the network's outputs and those of `other`, over all batch sizes.

    Raises UserError where it is more than rounding: then nothing is to be exported.
    """
    largest = 0.0
    for batch in BATCHES:
        inputs = inputs_of(network, batch)
        theirs = other(inputs)
        for name, ours in zip(OUTPUTS[network.task], outputs_of(network, inputs), strict=True):
            error = (theirs[name].double() - ours.double()).abs().max().item()
            if not error <= TOLERANCE * max(1.0, ours.abs().max().item()):  # also where it is not a number
                raise UserError(f"{what}: {name} of a batch of {batch} differ by {error:.2g}; nothing was written")
            largest = max(largest, error)
    return largest
