"""Timing several calls in turns, A B C A B C, so that what slows the machine for a while slows all of them."""

from __future__ import annotations

import gc
import math
import resource
import time
from collections.abc import Callable, Mapping

import torch

Action = Callable[[], object]

LEAST = 0.02  # seconds of one measurement; what takes less is repeated within it
WARM_UPS = 2, 8  # rounds before the clock counts: at least, at most
PATIENCE = 10.0  # seconds after which no more rounds of warming up begin than the least
SETTLED = 0.1  # relative fall of the page faults of a round below which the allocator has settled
FEW = 256  # page faults of a round that are as good as none


def race(
    actions: Mapping[str, Action], rounds: int, device: torch.device, tick: Callable[[], object] = lambda: None
) -> dict[str, list[float]]:
    """Seconds of every action in every round, after a warm-up of all; `tick` is called after each measurement.

    Garbage is collected between the rounds, never within a measurement.
    """
    repeats = warm_up(actions, device)
    seconds: dict[str, list[float]] = {label: [] for label in actions}
    enabled = gc.isenabled()
    try:
        for _ in range(rounds):
            gc.collect()
            gc.disable()
            for label, action in actions.items():
                seconds[label].append(timed(action, repeats[label], device))
                tick()
    finally:
        if enabled:
            gc.enable()
    return seconds


def warm_up(actions: Mapping[str, Action], device: torch.device) -> dict[str, int]:
    """Whole rounds until they fault in no new memory; returns how often each action is repeated in a measurement.

    A contestant's first passes take memory from the system, and change what the allocator hands to the next one.
    """
    fewest, seconds, begin = math.inf, {}, time.perf_counter()
    for number in range(WARM_UPS[1]):
        start = page_faults()
        seconds = {label: timed(action, 1, device) for label, action in actions.items()}
        faults = page_faults() - start
        settled = faults <= FEW or faults >= (1 - SETTLED) * fewest
        if number + 1 >= WARM_UPS[0] and (settled or time.perf_counter() - begin > PATIENCE):
            break
        fewest = min(fewest, faults)
    return {label: max(1, math.ceil(LEAST / max(value, 1e-7))) for label, value in seconds.items()}


def timed(action: Action, repeats: int, device: torch.device) -> float:
    """Mean seconds of so many calls, with all work that they have started on an accelerator."""
    synchronise(device)
    start = time.perf_counter()
    for _ in range(repeats):
        action()
    synchronise(device)
    return (time.perf_counter() - start) / repeats


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
