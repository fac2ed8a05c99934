"""Peak memory of an action above what is held before it, counted by torch's own allocators."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.profiler import ProfilerActivity, profile

EVENT = "[memory]"  # an allocation, or where its bytes are negative a release


def peak(action: Callable[[], object], device: torch.device, release: Callable[[], object] = lambda: None) -> int:
    """Bytes; `release` drops what an action leaves behind, gradients for instance, so that it is not held before."""
    action()
    release()
    found = peak_on_cuda(action, device) if device.type == "cuda" else peak_on_cpu(action)
    release()
    return found


def peak_on_cuda(action: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    action()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def peak_on_cpu(action: Callable[[], object]) -> int:
    """The greatest sum of the bytes taken and given back so far."""
    with quiet(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    total = top = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == EVENT:
            total += event.nbytes()
            top = max(top, total)
    return top


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the profiler's library writes to stderr, which only the file descriptor can keep away."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
