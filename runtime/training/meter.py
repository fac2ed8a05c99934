"""How fast a run goes: inputs per second, share of time spent waiting, memory, share of the machine's rate."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from runtime.network import Compiled
from runtime.parallel import World
from runtime.products import forward_flops, training_flops
from runtime.recipe.schema import Recipe
from runtime.scoring.measure import autocast

SIDES = {"cpu": 1024, "cuda": 8192}  # of the matrices whose product gives the rate of a device
TRIES = 5
HOPELESS = 10  # times the fastest: further tries cannot be faster than it


class Meter:
    """Counts from the start of a run, or from the last time that it was read."""

    def __init__(self, recipe: Recipe, compiled: Compiled, device: torch.device, world: World) -> None:
        self.recipe, self.device = recipe, device
        share = recipe.batch // world.parts(recipe.accumulate)
        self.flops = None if compiled.stand_in else step_flops(recipe, compiled, share)
        self.peak = product_rate(device, recipe.precision) * world.size
        self.waited = 0.0  # seconds
        self.started = time.perf_counter()

    def restart(self) -> None:
        self.waited, self.started = 0.0, time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens within is no training: it does not count."""
        before = time.perf_counter()
        yield
        self.started += time.perf_counter() - before

    def read(self, steps: int) -> dict[str, float]:
        """Figures of the last `steps` steps; `mfu` is the model's operations over those of large products."""
        seconds = time.perf_counter() - self.started
        rate = steps * self.recipe.batch / seconds
        figures = {
            f"{self.recipe.data.unit}_per_second": rate,
            "data_wait": self.waited / seconds,
            "memory_gb": memory(self.device) / 1e9,
        }
        self.restart()
        return figures | ({"mfu": rate * self.flops / self.peak} if self.flops else {})


def step_flops(recipe: Recipe, compiled: Compiled, share: int) -> float:
    """Operations of a training step for one input, of which `share` are taken at a time."""
    learning, watching = recipe.task.passes()
    compilation, module = compiled.compilation, compiled.module
    frozen = recipe.initialisation is not None and recipe.initialisation.freeze  # the head's own share is small
    flops = (forward_flops if frozen else training_flops)(compilation, module, learning * share)
    return (flops + (forward_flops(compilation, module, watching * share) if watching else 0)) / share


def memory(device: torch.device) -> int:
    """Bytes at the most so far: of the accelerator, or of the process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def product_rate(device: torch.device, precision: str) -> float:
    """Operations per second of a large matrix product, the best of a few in float32 and in `precision`.

    Where a device has no products of `precision`, those are slower than float32 by far, and no measure of it.
    """
    side = SIDES.get(device.type, SIDES["cpu"])
    left, right = torch.randn(2, side, side, device=device)
    best = math.inf
    for kind in dict.fromkeys(["float32", precision]):
        for attempt in range(TRIES):
            seconds = product_time(left, right, kind)
            best = min(best, seconds)
            if attempt and seconds > HOPELESS * best:  # the first one also loads what the product needs
                break
    return 2 * side**3 / best


def product_time(left: torch.Tensor, right: torch.Tensor, precision: str) -> float:
    """Seconds of one product of two matrices."""
    with torch.no_grad(), autocast(left.device, precision):
        started = time.perf_counter()
        (left @ right)[0, 0].item()
        return time.perf_counter() - started
