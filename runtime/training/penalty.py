"""The energies that a spec's loss adds to the data loss: gathered in the one forward pass of a training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Penalised(nn.Module):
    """A network whose forward pass gives its penalty beside the output; what is compiled as one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor, **named: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.forward_with_penalty(*inputs, **named)


class Call:
    """What a task calls for the output of a network; keeps the penalties of its calls for the training step."""

    def __init__(self, network: nn.Module, compiled: bool) -> None:
        self.penalised = hasattr(network, "forward_with_penalty")
        module = Penalised(network) if self.penalised else network
        self._run = torch.compile(module) if compiled else module
        self._kept: list[Tensor] = []

    def __call__(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """The output of the network, whatever it is."""
        if not self.penalised:
            return self._run(*inputs, **named)
        output, penalty = self._run(*inputs, **named)
        self._kept.append(penalty)
        return output

    def penalty(self) -> Tensor:
        """The mean over the calls since this was asked last: a task may call the network more than once."""
        kept, self._kept = self._kept, []
        return torch.stack(kept).mean()


def penalties(network: nn.Module, images: Tensor, noise: Tensor | None) -> dict[str, Tensor]:
    """The penalty of a batch, (batch,), to be averaged over a split; nothing where the loss has none."""
    if not hasattr(network, "forward_with_penalty"):
        return {}
    _, penalty = network.forward_with_penalty(images, *(() if noise is None else (noise,)))
    return {"penalty": penalty.expand(len(images))}
