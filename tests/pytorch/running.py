"""Executing written files, and the numbers of a step's parameters for the numpy oracle."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from crate_dsl.language.model import ONE
from crate_dsl.loading import module_of
from crate_dsl.operators.interpret import Inputs
from crate_dsl.operators.passes import optimise
from crate_dsl.operators.program import Program, StepProgram
from crate_dsl.pytorch.write import class_name, write


def written(program: Program) -> ModuleType:
    """The module of an optimised program, executed."""
    return module_of(write(optimise(program), "test"), class_name(program.derivation.model))


def network_of(program: Program, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return getattr(written(program), class_name(program.derivation.model))().double()


def in_parts(advance: Callable[[Tensor, dict], Tensor], text: Tensor, *sizes: int) -> Tensor:
    """What `advance` of a network or a step gives for a text, or tokens, read in parts of these sizes."""
    memory = {}
    return torch.cat([advance(part, memory) for part in text.split(sizes, dim=1)], dim=1)


def columns(tokens: Tensor) -> np.ndarray:
    """(batch, N, d) of torch to (batch, d, N) of the mathematics."""
    return tokens.detach().numpy().transpose(0, 2, 1)


def step_inputs(module: nn.Module, step: StepProgram, program: Program, matrices: dict[str, np.ndarray]) -> Inputs:
    """The oracle's inputs with the parameters of a module's step."""
    sizes = step.block.sizes
    for parameter in (*step.block.parameters, *step.derived.parameters):
        if hasattr(module, parameter.name):
            value, shape = getattr(module, parameter.name).detach().numpy(), parameter.shape
            if shape.family:
                value = value.reshape(sizes[shape.family], -1, sizes[shape.rows]).transpose(0, 2, 1)
            matrices[parameter.name] = value[:, None] if shape.cols == ONE and not shape.family else value
    for parameter in (p for p in step.derived.parameters if not p.stored):
        matrices[parameter.name] = made_of(matrices[parameter.origin], parameter.held)
    scalars = {name: float(value) for name, value in program.derivation.model.reals.items()}
    for learned in (*step.block.scalars, *program.derivation.model.scalars):
        if hasattr(module, f"log_{learned.name}"):
            scalars[learned.name] = getattr(module, f"log_{learned.name}").exp().detach().numpy()
        elif hasattr(module, learned.name):
            scalars[learned.name] = getattr(module, learned.name).detach().numpy()
    return Inputs(matrices, scalars)


def made_of(family: np.ndarray, held: str) -> np.ndarray:
    """The outer family (members, rows, cols) that stands for one that is not stored."""
    whole = np.concatenate(list(family), axis=1)  # [U_1 .. U_K]
    other = {"transposed": whole.T, "identity": np.eye(len(whole))}[held]
    return np.stack(np.split(other, len(family), axis=1))
