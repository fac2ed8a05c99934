"""A command in a process of its own, with what it printed, how long it took and how much memory it ever held."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from runtime.command import run

SECONDS = 20
HELD = 400 * 2**20  # bytes beyond what the process held when it started
SAFETY = 8 * 2**30  # of address space, so that a bomb that goes off does not take the machine with it


@dataclass(frozen=True)
class Outcome:
    """How a command ended; `status` is None where it had to be killed."""

    status: int | None
    text: str
    held: int

    def refused(self, says: str) -> None:
        """It was an error of the user's, told in one message, within bounds of time and memory."""
        assert self.status == 1, f"status {self.status}: {self.text[-2000:]}"
        assert says in self.text, self.text[-2000:]
        assert "Traceback" not in self.text and len(self.text) < 20_000, self.text[:3000]
        assert self.held < HELD, f"held {self.held >> 20} MB"


def outcome(main: Callable[[Sequence[str]], object], *words: object) -> Outcome:
    """Run `main` as its command line does, in a fork: what it does to the process ends with it."""
    before = pages(1)  # a fork starts with what is held now
    with tempfile.NamedTemporaryFile() as file:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            command(main, [str(word) for word in words], file.fileno())
        status, usage = waited(child)
        return Outcome(status, Path(file.name).read_text(errors="replace"), usage.ru_maxrss * 1024 - before)


def pages(column: int) -> int:
    """Bytes of address space (0) or memory (1) of this process."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()


def waited(child: int) -> tuple[int | None, resource.struct_rusage]:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    return None, os.wait4(child, 0)[2]


def command(main: Callable[[Sequence[str]], object], words: Sequence[str], output: int) -> None:
    """The forked side: never returns."""
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        resource.setrlimit(resource.RLIMIT_AS, (pages(0) + SAFETY, pages(0) + SAFETY))
        torch.set_num_threads(1)  # the threads of the process that was forked are not here to be waited for
        sys.argv = ["command", *words]
        run(main)
    except SystemExit as left:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(left.code if isinstance(left.code, int) else 99)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(70)
