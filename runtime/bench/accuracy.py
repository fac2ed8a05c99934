"""How far outputs and gradients in the precision of the bench lie from float64."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runtime.bench.workload import Call, Workload
from runtime.weights.conversion import convert_state

INPUTS = 2  # at most; float64 is slow, errors of a few inputs are those of all


@dataclass(frozen=True)
class Truth:
    """Output and gradients, by the parameters' names, in float64."""

    output: Tensor
    gradients: dict[str, Tensor]

    def named_as(self, network: nn.Module) -> Truth:
        """Those of an official form under the names of the compiled network: the table of names is linear."""
        zeros = {name: torch.zeros_like(value) for name, value in network.state_dict().items()}
        return Truth(self.output, zeros | convert_state(self.gradients, network, complete=False))


@dataclass(frozen=True)
class Errors:
    """Norm of the difference over the norm; None where there are no gradients."""

    output: float
    gradient: float | None


def truth(module: nn.Module, work: Workload) -> Truth:
    """What a network computes in float64 of the weights that it has; the network itself stays as it is."""
    double, wide = copy.deepcopy(module).double(), work.first(inputs(work)).double()
    double.zero_grad(set_to_none=True)
    with torch.no_grad():
        output = wide.output(double)
    wide.training_step(double, double)
    return Truth(output, gradients_of(double))


def errors(module: nn.Module, call: Call, exact: Truth, work: Workload, trains: bool) -> Errors:
    """Those of a contestant in the precision of the bench, the gradients of all its parameters taken together.

    The few inputs fill the batch over and over, which has the same mean loss: what was compiled sees one shape only.
    """
    count = inputs(work)
    work = work.filled(count)
    module.eval()
    with torch.no_grad():
        output = relative({"": work.output(call)[:count]}, {"": exact.output})
    module.train()
    if not trains:
        return Errors(output, None)
    work.training_step(module, call)
    found = gradients_of(module)
    module.zero_grad(set_to_none=True)
    return Errors(output, relative(found, {name: exact.gradients[name] for name in found}))


def inputs(work: Workload) -> int:
    """How many inputs errors are measured of: so many that copies of them fill the batch."""
    return math.gcd(INPUTS, len(work.batch))


def difference(one: nn.Module, other: nn.Module, work: Workload) -> float:
    """Of the outputs of two networks in float64, relative."""
    wide = work.first(inputs(work)).double()
    with torch.no_grad():
        outputs = [wide.output(copy.deepcopy(module).double()) for module in (one, other)]
    return relative({"": outputs[0]}, {"": outputs[1]})


def gradients_of(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.detach() for name, p in module.named_parameters() if p.grad is not None}


def relative(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> float:
    """The norm of all differences together over that of all exact values."""
    off = sum(float((found[name].double() - value).square().sum()) for name, value in exact.items())
    whole = sum(float(value.square().sum()) for value in exact.values())
    return (off / whole) ** 0.5 if whole else off**0.5
