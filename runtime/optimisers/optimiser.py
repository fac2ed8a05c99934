"""What an optimiser is: options of a recipe that build a torch optimiser for what is trained."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from runtime.registry import Strict
from runtime.training.groups import Group, grouped

Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]  # memory of two averages


class Optimiser(Strict):
    """Options of one optimiser; a subclass has a literal field `name` and its own defaults.

    The learning rate is `lr`, or lr x batch / `lr_per` where that is given (Goyal et al. 2017). The layers below the
    head have it times `layer_decay` to the power of their distance from the head (Bao et al. 2022). Weight decay is for
    matrices, with `decay_all` also for norms, biases, tokens, positions and scalars; with `weight_decay_end` it goes
    there along half a cosine (Caron et al. 2021).
    """

    name: str
    lr: float = Field(default=1e-3, gt=0)
    lr_per: int | None = Field(default=None, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    weight_decay_end: float | None = Field(default=None, ge=0)
    decay_all: bool = False
    layer_decay: float = Field(default=1.0, gt=0, le=1)

    @abstractmethod
    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of the parameters that require gradients.

        Its groups carry `scale`, by which the learning rate of a step is multiplied, and `decays`; both are kept in its
        state. Parameters may be sharded already, the network must not be wrapped. Raises UserError where the optimiser
        cannot be had, or the network has no blocks for `layer_decay`.
        """

    def groups(self, network: nn.Module) -> list[Group]:
        return grouped(network, self)

    def peak(self, batch: int) -> float:
        """The learning rate after the warm-up, for a batch of so many inputs."""
        return self.lr if self.lr_per is None else self.lr * batch / self.lr_per
