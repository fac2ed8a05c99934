"""A compiled network in the runtime's hands: the module, where it came from, and the shape of its images."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import crate_dsl
from runtime.errors import UserError


@dataclass(frozen=True)
class Shape:
    """Shape of one image as (channels, height, width)."""

    channels: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.channels} x {self.height} x {self.width}"


@dataclass(frozen=True)
class Compiled:
    """A network with its origin: spec text (with included energies in place), its hash, and the module made of it."""

    name: str
    spec: str
    sha256: str
    text: str
    module: nn.Module

    @property
    def shape(self) -> Shape:
        """The images that it reads; raises UserError where it reads something else."""
        if not hasattr(self.module, "image_size"):
            raise UserError(f"{self.name} reads vectors, and the data sources here are images")
        return Shape(self.module.channels, *self.module.image_size)


def compile_network(
    path: Path, preset: str | None, sizes: Mapping[str, int | float], seed: int = 0, dtype: torch.dtype = torch.float32
) -> Compiled:
    """Compile a spec and build its network, initialised from `seed`.

    Raises CrateError for whatever the compiler refuses, an unreadable file among it.
    """
    compilation = crate_dsl.compile_spec(path, preset=preset, overrides=sizes)
    text, spec = compilation.text, compilation.resolved
    torch.manual_seed(seed)
    module = crate_dsl.load(path, preset=preset, **sizes).to(dtype)
    return Compiled(compilation.model.name, spec, hashlib.sha256(spec.encode()).hexdigest(), text, module)


def kind_of(path: Path) -> str:
    """The kind of network that a spec states, as its attribute `task` will say, without building it."""
    model = crate_dsl.compile_spec(path).model
    if model.mask is not None:
        return "mae"
    return "reconstruct" if model.head.word.name == "patches" else model.head.word.name


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefixes that `torch.compile` and DDP put before names."""
    return {name.removeprefix("module.").replace("_orig_mod.", ""): value for name, value in state.items()}


def first_not_finite(module: nn.Module, images: Tensor, noise: Tensor | None) -> str:
    """Says where a computation first leaves the finite numbers: input, parameter, step, or only the loss."""
    if not torch.isfinite(images).all():
        return "the images themselves are not finite"
    bad = [name for name, value in module.named_parameters() if not torch.isfinite(value).all()]
    arguments = (images,) if noise is None else (images, noise)
    with torch.no_grad():
        features = module.features(*arguments)
    for name, tokens in features.items():
        if not torch.isfinite(tokens).all():
            cause = f'; its parameter "{bad[0]}" is not finite either' if bad else ""
            return f'the first step whose output is not finite is "{name}"{cause}'
    return "the outputs of all steps are finite, so the fault arises after them: in the head, the loss or the gradient"
