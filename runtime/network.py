"""A compiled network in the runtime's hands: the module, where it came from, and the shape of what it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

import crate_dsl
from crate_dsl.language.model import ONE, Model
from crate_dsl.pytorch.parameters import attribute
from runtime.errors import UserError
from runtime.storage import untrusted


class InputShape(Protocol):
    """The shape of one input; `kind` names what has such shapes."""

    kind: ClassVar[str]

    @classmethod
    def of(cls, module: nn.Module) -> InputShape:
        """What a network of this kind of input reads."""
        ...


@dataclass(frozen=True)
class Shape:
    """Shape of one image as (channels, height, width)."""

    kind: ClassVar[str] = "images"
    channels: int
    height: int
    width: int

    @classmethod
    def of(cls, module: nn.Module) -> Shape:
        return cls(module.channels, *module.image_size)

    def __str__(self) -> str:
        return f"{self.channels} x {self.height} x {self.width}"


@dataclass(frozen=True)
class TextShape:
    """A text of `length` tokens from a vocabulary."""

    kind: ClassVar[str] = "text"
    length: int
    vocabulary: int

    @classmethod
    def of(cls, module: nn.Module) -> TextShape:
        return cls(module.token_count, module.vocabulary)

    def __str__(self) -> str:
        return f"{self.length} tokens from a vocabulary of {self.vocabulary}"


@dataclass(frozen=True)
class VectorShape:
    """`count` vectors of `length` entries."""

    kind: ClassVar[str] = "vectors"
    length: int
    count: int

    @classmethod
    def of(cls, module: nn.Module) -> VectorShape:
        return cls(module.vector_length, module.vector_count)

    def __str__(self) -> str:
        return f"{self.count} vectors of {self.length} entries"


SHAPES: Mapping[str, type[InputShape]] = {  # by a network's attribute `input`
    "image": Shape,
    "text": TextShape,
    "vectors": VectorShape,
}


@dataclass(frozen=True)
class Compiled:
    """A network with its origin: what the compiler made of a spec, and the module made of that."""

    compilation: crate_dsl.Compilation
    module: nn.Module
    stand_in: str | None = None  # the name of a network that is trained in the place of the spec's

    @property
    def name(self) -> str:
        return self.stand_in or self.compilation.model.name

    @property
    def spec(self) -> str:
        """The text of the spec, with included energies in place."""
        return self.compilation.resolved

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.spec.encode()).hexdigest()

    @property
    def text(self) -> str:
        """The written module."""
        return self.compilation.text

    @property
    def shape(self) -> InputShape:
        return SHAPES[self.module.input].of(self.module)


def has_kernels(device: torch.device) -> bool:
    """Whether a network for a device is compiled with kernels of Triton: where that is installed, as beside CUDA."""
    return device.type == "cuda" and find_spec("triton") is not None


def compile_network(
    path: Path,
    preset: str | None,
    sizes: Mapping[str, int | float],
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    gpu: bool = False,
) -> Compiled:
    """Compile a spec and build its network, initialised from `seed`, on the processor; `gpu` as `has_kernels` says.

    Raises CrateError for whatever the compiler refuses, an unreadable file among it, and UserError for a network that
    this machine cannot hold.
    """
    return built(crate_dsl.compile_spec(path, preset=preset, overrides=sizes, gpu=gpu), seed, dtype)


def built(compilation: crate_dsl.Compilation, seed: int = 0, dtype: torch.dtype = torch.float32) -> Compiled:
    """The network of a compilation, initialised from `seed`; raises UserError where this machine cannot hold it."""
    require_memory(compilation.model, compilation.costs.parameters)
    torch.manual_seed(seed)
    module = written_class(compilation)().to(dtype)
    module.family_columns = family_columns(compilation.model)
    return Compiled(compilation, module)


def family_columns(model: Model) -> frozenset[tuple[str, str]]:
    """(block, attribute) of what is a vector for every head, as a bias of heads is: stored, it looks like a matrix."""
    return frozenset(
        (block.role, attribute(parameter.name))
        for block in model.blocks
        for parameter in block.parameters
        if parameter.shape.family and ONE in (parameter.shape.rows, parameter.shape.cols)
    )


def written_class(compilation: crate_dsl.Compilation) -> type[nn.Module]:
    """The class that the written file declares: what is executed is the compiler's output, never a user's code."""
    return getattr(crate_dsl.module_of(compilation.text, compilation.class_name), compilation.class_name)


def require_memory(model: Model, parameters: int) -> None:
    """Raises UserError where the parameters and the table of positions alone are larger than this machine's memory."""
    wanted = 4 * (parameters + model.tokens.count * model.sizes[model.tokens.rows])
    if wanted > (memory := untrusted.memory()):
        found = f"{parameters:,} parameters and {model.tokens.count:,} tokens"
        raise UserError(f"{model.name}: {found} take {wanted >> 30:,} GB, this machine has {memory >> 30:,} GB")


def kind_of(path: Path) -> str:
    """The kind of network that a spec states, as its attribute `task` will say, without building it."""
    return crate_dsl.compile_spec(path).task


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefixes that `torch.compile` and DDP put before names."""
    return {name.removeprefix("module.").replace("_orig_mod.", ""): value for name, value in state.items()}


def first_not_finite(module: nn.Module, inputs: Tensor, noise: Tensor | None) -> str:
    """Says where a computation first leaves the finite numbers: inputs or step; empty where none of them does."""
    if not torch.isfinite(inputs).all():
        return "the images themselves are not finite"
    bad = [name for name, value in module.named_parameters() if not torch.isfinite(value).all()]
    arguments = (inputs,) if noise is None else (inputs, noise)
    with torch.no_grad():
        features = module.features(*arguments)
    for name, tokens in features.items():
        if not torch.isfinite(tokens).all():
            cause = f'; its parameter "{bad[0]}" is not finite either' if bad else ""
            return f'the first step whose output is not finite is "{name}"{cause}'
    return ""
