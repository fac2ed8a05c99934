"""What tasks of self-distillation share: views, apparatus, teacher, and the k-nearest-neighbour score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.network import Shape
from runtime.scoring.coding_rate import coding_rate, effective_rank
from runtime.scoring.neighbours import Neighbours
from runtime.self_supervision.distillation import Distillation, Projection, ProjectionHead, momentum_of
from runtime.self_supervision.views import GLOBAL, Views
from runtime.tasks.task import Task, wide

THUMBNAIL = 32  # pixels per side to which images are reduced for the comparison with their pixels
DISTORTION = 0.5  # of the reported coding rate


@dataclass(frozen=True)
class Known:
    """What the training images say: their neighbours by features, by features of an untrained network, by pixels."""

    trained: Neighbours
    untrained: Neighbours
    pixels: Neighbours
    fresh: nn.Module  # the untrained network
    rank: Tensor  # effective rank of the training features
    rate: Tensor  # their coding rate


class SelfDistillation(Task):
    """A student sees all views, its teacher the global ones; labels serve the score only.

    The teacher is what is evaluated and exported, as officially. Its momentum rises from `momentum` to 1.
    """

    networks: ClassVar = ("features",)
    metric: ClassVar = "knn_accuracy"
    larger_is_better: ClassVar = True
    compares: ClassVar = True

    views: Views = Views()
    head: Projection = Projection()
    momentum: float = Field(default=0.996, ge=0, le=1)

    def check(self, network: nn.Module, classes: int | None) -> None:
        super().check(network, classes)
        if classes is None:
            raise UserError(f'task "{self.name}" is scored by nearest neighbours, which needs data with classes')

    # ---- training -------------------------------------------------------------------------------------------------

    def apparatus(self, network: nn.Module) -> Distillation:
        return Distillation(network, ProjectionHead(network.features_size, self.head))

    def judged(self, trained: Distillation) -> nn.Module:
        return trained.teacher

    def passes(self) -> tuple[int, int]:
        return GLOBAL + self.views.local, GLOBAL

    def draw(self, network: nn.Module, images: int, generator: torch.Generator) -> Tensor:
        return self.views.draw(images, Shape(network.channels, *network.image_size), generator)

    def outputs(self, call: nn.Module, trained: Distillation, batch: Batch, draw: Tensor) -> tuple[Tensor, Tensor]:
        """Of the student for all views and of the teacher for the global ones, (views, batch, outputs) each."""
        views = self.views.of(batch.images, draw)
        student = trained.head(call(views.flatten(0, 1))).unflatten(0, views.shape[:2])
        return wide(student), wide(trained.taught(views[:GLOBAL]))

    def after_step(self, trained: Distillation, step: int, total: int) -> dict[str, float]:
        momentum = momentum_of(self.momentum, step, total)
        trained.follow(momentum)
        return {"momentum": momentum} | {name: trained.noted(name).item() for name in tuple(trained.seen)}

    # ---- scores -----------------------------------------------------------------------------------------------------

    def reference(self, network: nn.Module, batches: Iterable[Batch]) -> Known:
        fresh = untrained(network)
        found: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for batch in batches:
            images = batch.images
            found.append((unit(network(images)), unit(fresh(images)), thumbnails(images), batch.labels))
        trained, before, pixels, labels = (torch.cat(values) for values in zip(*found, strict=True))
        neighbours = (Neighbours(values, labels) for values in (trained, before, pixels))
        return Known(*neighbours, fresh, effective_rank(trained), coding_rate(trained, DISTORTION))

    def scores(
        self, network: nn.Module, batch: Batch, draw: Tensor | None, reference: Known | None
    ) -> dict[str, Tensor]:
        features, count = unit(network(batch.images)), len(batch.images)
        if reference is None:
            return {}
        return {
            "knn_accuracy": reference.trained.right(features, batch.labels),
            "knn_untrained": reference.untrained.right(unit(reference.fresh(batch.images)), batch.labels),
            "knn_pixels": reference.pixels.right(thumbnails(batch.images), batch.labels),
            "effective_rank": reference.rank.expand(count),
            "coding_rate": reference.rate.expand(count),
        }

    def panels(self, network: nn.Module, batch: Batch, draw: Tensor | None) -> dict[str, Tensor]:
        views = self.views.of(batch.images, draw)
        labels = [f"global view {number + 1}" for number in range(GLOBAL)]
        labels += [f"local view {number + 1}" for number in range(self.views.local)]
        return {"image": batch.images, **dict(zip(labels, views, strict=True))}


def untrained(network: nn.Module) -> nn.Module:
    """Another network of the same class, freshly initialised, the same in every call; for evaluation."""
    like = next(network.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return type(network)().to(like).eval()


def unit(features: Tensor) -> Tensor:
    return F.normalize(wide(features), dim=-1)


def thumbnails(images: Tensor) -> Tensor:
    """The pixels of images (batch, ...), area-averaged to at most 32 x 32, (batch, pixels)."""
    small = [min(side, THUMBNAIL) for side in images.shape[2:]]
    return F.adaptive_avg_pool2d(wide(images), small).flatten(1)
