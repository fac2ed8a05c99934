"""Self-distillation: a student learns from a teacher that is its own moving average (Caron et al. 2021)."""

from __future__ import annotations

import copy
import math

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from runtime.parallel import averaged
from runtime.registry import Strict


class Projection(Strict):
    """The head of student and teacher: three layers with GELU, then unit length.

    Source: DINOHead of the official DINO; the sizes there are 2048, 256 and 65536.
    """

    hidden: int = Field(default=2048, gt=0)
    bottleneck: int = Field(default=256, gt=0)


class Prototypes(Projection):
    """The same, and products with prototypes behind it; SimDINO does without them."""

    prototypes: int = Field(default=65536, gt=1)


class ProjectionHead(nn.Module):
    """Features (..., d) to unit vectors (..., bottleneck), or to their products with prototypes of unit length."""

    def __init__(self, width: int, sizes: Projection) -> None:
        super().__init__()
        widths = (width, sizes.hidden, sizes.hidden, sizes.bottleneck)
        layers = [nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)]
        for layer in layers:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.layers = nn.Sequential(layers[0], nn.GELU(), layers[1], nn.GELU(), layers[2])
        self.prototypes = None
        if isinstance(sizes, Prototypes):  # weight = g v / |v| with g held at 1
            self.prototypes = weight_norm(nn.Linear(sizes.bottleneck, sizes.prototypes, bias=False))
            length = self.prototypes.parametrizations.weight.original0
            nn.init.ones_(length)
            length.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        code = F.normalize(self.layers(features), dim=-1)
        return code if self.prototypes is None else self.prototypes(code)


class Distillation(nn.Module):
    """A network with what self-distillation needs beside it: heads, the teacher, and the centre of its outputs."""

    def __init__(self, network: nn.Module, head: ProjectionHead) -> None:
        super().__init__()
        self.network, self.head = network, head
        self.teacher, self.teacher_head = copy.deepcopy(network), copy.deepcopy(head)
        for parameter in self.averages():
            parameter.requires_grad_(False)
        self.register_buffer("centre", torch.zeros(head.prototypes.out_features) if head.prototypes else None)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))  # done so far
        self.seen: dict[str, list[Tensor]] = {}  # means over a share, of all shares since the last step, by name

    def train(self, mode: bool = True) -> Distillation:
        """As every module; stochastic depth is the student's alone, as in the official DINO."""
        super().train(mode)
        self.teacher.eval()
        return self

    def averages(self) -> list[nn.Parameter]:
        """The teacher's parameters, in the order of `sources`."""
        return [*self.teacher.parameters(), *self.teacher_head.parameters()]

    def sources(self) -> list[nn.Parameter]:
        return [*self.network.parameters(), *self.head.parameters()]

    @torch.no_grad()
    def taught(self, views: Tensor) -> Tensor:
        """The teacher's outputs for views (views, batch, ...), (views, batch, outputs)."""
        return self.teacher_head(self.teacher(views.flatten(0, 1))).unflatten(0, views.shape[:2])

    def note(self, **means: Tensor) -> None:
        """Keep what a loss has seen of a share until the step is done."""
        for name, value in means.items():
            self.seen.setdefault(name, []).append(value.detach())

    def noted(self, name: str) -> Tensor:
        """The mean over all shares, of all processes; it is forgotten then."""
        return averaged(torch.stack(self.seen.pop(name)).mean(0))

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """teacher <- momentum teacher + (1 - momentum) student; statistics of batch norms are the student's own."""
        for average, source in zip(self.averages(), self.sources(), strict=True):
            average.lerp_(source, 1 - momentum)
        for average, source in zip(self.teacher.buffers(), self.network.buffers(), strict=True):
            average.copy_(source)
        self.steps += 1

    @torch.no_grad()
    def recentre(self, momentum: float) -> None:
        """centre <- momentum centre + (1 - momentum) mean of the teacher's outputs in this step."""
        self.centre.lerp_(self.noted("teacher"), 1 - momentum)


def momentum_of(start: float, step: int, total: int) -> float:
    """The teacher's momentum after step 0 .. total - 1: half a cosine from `start` to 1."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * step / total)) / 2


def other_views(taught: int, views: int) -> list[tuple[int, int]]:
    """The pairs (view of the teacher, view of the student) that a loss compares: all but a view with itself."""
    return [(t, s) for t in range(taught) for s in range(views) if t != s]
