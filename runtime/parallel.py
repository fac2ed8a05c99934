"""One process or several: who we are among them, and the few things that they do together.

`torchrun` says it in the environment; without it there is one process, and nothing here communicates.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from crate_dsl import CrateError
from runtime.errors import Quiet, UserError

T = TypeVar("T")

SETTLING = 0.2  # seconds; on an idle machine microseconds would do


@dataclass(frozen=True)
class World:
    """Process number `rank` of `size`, the `local`-th on its machine. Process 0 writes and speaks for all."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def main(self) -> bool:
        return self.rank == 0

    def parts(self, accumulate: int) -> int:
        """Shares of a global batch: at least `accumulate`, equally many for every process."""
        return self.size * -(-accumulate // self.size)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes; changes `values` where there are several."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def all_of(self, value: T) -> list[T]:
        """What every process has, by rank."""
        values: list[T] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def refuse(self, message: str) -> UserError | Quiet:
        """What all processes raise alike: said by the first alone."""
        return UserError(message) if self.main else Quiet(message)

    def first_alone(self, build: Callable[[], T]) -> T:
        """Process 0 builds before the others: what it refuses is said once, what it fetches is there for all."""
        result, error = None, None
        if self.main:
            try:
                result = build()
            except (UserError, CrateError) as refusal:
                error = refusal
        failed = any(self.all_of(error is not None))
        if error:
            raise error
        if failed:
            raise Quiet("refused by process 0")
        return result if self.main else build()


@contextmanager
def world() -> Iterator[World]:
    """The processes that `torchrun` has started, connected: gloo for processors, NCCL for NVIDIA's accelerators.

    Within another such block the connection is that one's.
    """
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield World()
        return
    here = World(*(int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    if dist.is_initialized():
        yield here
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(here.local % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield here
    finally:
        dist.destroy_process_group()
        _settle()


def _settle() -> None:
    """Give gloo's threads the time to put down the tensors of the last exchange.

    What FSDP2 remembers of its meshes keeps these threads, whatever is destroyed. One that asks for Python's lock when
    the interpreter is ending already is ended by it, and the process aborts with all its work done.
    """
    gc.collect()  # modules hold the connection in circles, and without it the threads are joined
    time.sleep(SETTLING)


def averaged(values: Tensor) -> Tensor:
    """The mean over all processes, without a gradient; `values` itself where there is one."""
    if not dist.is_initialized():
        return values
    dist.all_reduce(values)
    return values / dist.get_world_size()


def joined(values: Tensor, dim: int) -> Tensor:
    """The values of all processes side by side along `dim`.

    The gradient of a loss of them is right once DDP or FSDP have averaged over the processes: only a process's own
    values have one here, and it counts as often as there are processes.
    """
    if not dist.is_initialized():
        return values
    size, held = dist.get_world_size(), values.detach().contiguous()
    everyone = [torch.empty_like(held) for _ in range(size)]
    dist.all_gather(everyone, held)
    everyone[dist.get_rank()] = held + size * (values - held)  # the difference is 0, its gradient is not
    return torch.cat(everyone, dim=dim)
