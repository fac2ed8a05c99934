"""What every contestant is given: the same random inputs, and the loss of the network's task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from runtime import seeds
from runtime.data.source import Batch
from runtime.network import InputShape, Shape, TextShape, VectorShape
from runtime.scoring.measure import autocast
from runtime.tasks.classify import Classify
from runtime.tasks.language import Language
from runtime.tasks.mae import MaskedAutoencoding
from runtime.tasks.masked_language import MaskedLanguage
from runtime.tasks.reconstruct import Reconstruct
from runtime.tasks.task import Task, wide

Call = Callable[..., Tensor | tuple[Tensor, Tensor]]

TASKS: dict[str, Task] = {  # by kind of network; the others are given the mean square of what they put out
    task.networks[0]: task for task in (Classify(), MaskedAutoencoding(), Language(), MaskedLanguage(), Reconstruct())
}


@dataclass(frozen=True)
class Workload:
    """Inputs on the device of the compiled network, which the task asks for what it has to know, and a precision.

    In bfloat16 weights stay in float32 and autocast narrows products, as in training.
    """

    network: nn.Module
    batch: Batch
    draw: Tensor | None
    precision: str

    @property
    def device(self) -> torch.device:
        return self.batch.inputs.device

    def output(self, call: Call) -> Tensor:
        """What a network puts out: logits, patches or tokens, without the mask."""
        arguments = (self.batch.inputs,) if self.draw is None else (self.batch.inputs, self.draw)
        with autocast(self.device, self.precision):
            result = call(*arguments)
        return result[0] if isinstance(result, tuple) else result

    def loss(self, call: Call) -> Tensor:
        task = TASKS.get(self.network.task)
        if task is None:
            return wide(self.output(call)).square().mean()
        with autocast(self.device, self.precision):
            return task.loss(call, self.network, self.batch, self.draw)

    def forward(self, module: nn.Module, call: Call) -> None:
        """A forward pass without gradients."""
        with torch.no_grad():
            self.output(call)

    def training_step(self, module: nn.Module, call: Call) -> None:
        """Forward, loss and backward pass; the optimiser, the same for all, is left out."""
        module.zero_grad(set_to_none=True)
        self.loss(call).backward()

    def first(self, count: int) -> Workload:
        """That of the first inputs alone."""
        return self._of(torch.arange(count, device=self.device))

    def filled(self, count: int) -> Workload:
        """The first inputs over and over, as many as there are."""
        return self._of(torch.arange(len(self.batch), device=self.device) % count)

    def _of(self, numbers: Tensor) -> Workload:
        labels = None if self.batch.labels is None else self.batch.labels[numbers]
        draw = None if self.draw is None else self.draw[numbers]
        return replace(self, batch=Batch(self.batch.inputs[numbers], labels), draw=draw)

    def double(self) -> Workload:
        """The same numbers in float64."""
        inputs = self.batch.inputs.double() if self.batch.inputs.is_floating_point() else self.batch.inputs
        draw = None if self.draw is None else self.draw.double()
        return replace(self, batch=Batch(inputs, self.batch.labels), draw=draw, precision="float64")


def workload(network: nn.Module, shape: InputShape, batch: int, precision: str) -> Workload:
    """Random inputs of a network, where it lies."""
    generator = seeds.torch_generator(seeds.DRAW, 0)
    inputs, labels = random_inputs(shape, network.classes, batch, generator)
    task = TASKS.get(network.task)
    draw = task.draw(network, batch, generator) if task else None
    device = next(network.parameters()).device
    return Workload(network, Batch(inputs, labels).to(device), None if draw is None else draw.to(device), precision)


def random_inputs(
    shape: InputShape, classes: int | None, batch: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """Normal images or vectors, uniform tokens; classes, or the token that follows each, as labels."""
    match shape:
        case Shape(channels, height, width):
            labels = torch.randint(classes, (batch,), generator=generator) if classes else None
            return torch.randn(batch, channels, height, width, generator=generator), labels
        case TextShape(length, vocabulary):
            text = torch.randint(vocabulary, (batch, length + 1), generator=generator)
            return text[:, :-1].contiguous(), text[:, 1:].contiguous()
        case VectorShape(length, count):
            return torch.randn(batch, count, length, generator=generator), None
    raise TypeError(f"no random inputs of {shape}")
