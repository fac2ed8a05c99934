"""Training in several processes: gradients averaged by DDP, or everything in slices by FSDP2.

A state is always saved whole and by plain names, so that any number of processes can go on from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from runtime.errors import UserError
from runtime.parallel import World, averaged
from runtime.training.average import Average

ENTRANCES = ("forward_with_penalty", "penalty")  # of a network and of its layers, where the loss has energies


def shard(objective: nn.Module, compiled: bool) -> None:
    """Cut all parameters within into slices, one per process: each layer is a unit, so is what a network has beside.

    A layer is compiled by itself, since gathering its slices cannot be a part of a larger compiled graph.
    """
    networks = [module for module in objective.modules() if any(map(is_stack, module.children()))]
    for layer in (layer for network in networks for stack in filter(is_stack, network.children()) for layer in stack):
        if compiled:
            layer.compile()
        unit(layer)
    for module in (*networks, objective):
        unit(module)


def unit(module: nn.Module) -> None:
    """Slices that are gathered for the module's forward pass, and for the other ways in which a loss enters it.

    Learned numbers cannot be cut: they stay whole, and their gradients are averaged by `average_numbers`.
    """
    numbers = {parameter for parameter in module.parameters() if parameter.ndim == 0}
    if numbers and "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise UserError("parallel=fsdp: a network with learned numbers needs torch 2.7 or newer (or parallel=ddp)")
    fully_shard(module, **{"ignored_params": numbers} if numbers else {})
    for entrance in ENTRANCES:
        if hasattr(module, entrance):
            register_fsdp_forward_method(module, entrance)


def is_stack(module: nn.Module) -> bool:
    """Whether it is the list of a network's layers."""
    return type(module) is nn.ModuleList  # a parametrisation is a kind of one, too


def wrapped(objective: nn.Module, world: World, device: torch.device) -> nn.Module:
    """What is called for the loss: the objective itself where it is alone or sharded, else within DDP."""
    if world.size == 1 or isinstance(objective, FSDPModule):
        return objective
    own = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(objective, device_ids=own, broadcast_buffers=False, gradient_as_bucket_view=True)


def communicating(module: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Gradients are exchanged with the last share of a batch only."""
    if isinstance(module, DistributedDataParallel) and not last:
        return module.no_sync()
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
    return nullcontext()


def average_numbers(module: nn.Module) -> None:
    """Average over the processes the gradients that FSDP leaves alone."""
    if isinstance(module, FSDPModule):
        for parameter in module.parameters():
            if parameter.grad is not None and not isinstance(parameter, DTensor):
                parameter.grad = averaged(parameter.grad)


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, sliced or not; all processes must ask for it."""
    kinds = ([g for g in gradients if isinstance(g, DTensor) is sliced] for sliced in (False, True))
    norms = [whole(get_total_norm(kind)) for kind in kinds if kind]
    return norms[0] if len(norms) == 1 else torch.stack(norms).norm()


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """All parameters whole for a while, for passes that do not go through the layers' own calls."""
    units = [unit for unit in module.modules() if isinstance(unit, FSDPModule)]
    for unit in units:
        unit.unshard()
    yield
    for unit in units:
        unit.reshard()


def whole(value: Any) -> Any:
    """A state with every sliced tensor put together; all processes must ask for it."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(item) for item in value)
    return value


def sliced(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor in the slices of another one of its shape."""
    if not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


@torch.no_grad()
def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a whole state into a module that may be sliced; raises RuntimeError where names or shapes differ."""
    own = module.state_dict()
    module.load_state_dict({name: sliced(value, own[name]) if name in own else value for name, value in state.items()})


def fill_average(average: Average, state: Mapping[str, Any]) -> None:
    """Load whole averaged weights, which are sliced as the network's are."""
    values = {name: sliced(value, average.values[name]) for name, value in state["values"].items()}
    average.load_state_dict({**state, "values": values})


def fill_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load a whole state, whose entries are numbered in the order of the parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    entries = {
        number: {
            name: sliced(value, parameters[number]) if isinstance(value, Tensor) else value
            for name, value in entry.items()
        }
        for number, entry in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": entries})
