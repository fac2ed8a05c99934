"""Reading modules: without the collector of garbage, and so that Ctrl-C ends a command without a traceback."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

OURS = ("crate_dsl", "runtime")
INTERRUPTED = 128 + signal.SIGINT  # the exit status, as a shell has it


@contextmanager
def uncollected() -> Iterator[None]:
    """Modules read inside stay, with all that they hold: looking for garbage in it takes a tenth of a compilation.

    At the end everything counts as old, so that the next collection of young objects does not make up for it.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
        if collecting:
            gc.enable()


def end_quietly_on_interrupt() -> None:
    """Until `interrupt_as_usual`, Ctrl-C ends one of our commands at once: reading its modules takes seconds.

    Programs that only use the package, and those for which someone has set the signal, keep what they have.
    """
    if runs_a_command(sys.argv, sys.orig_argv) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)


def interrupt_as_usual() -> None:
    """A command has begun, which says by itself what an interrupt means."""
    if signal.getsignal(signal.SIGINT) is leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def leave(*_: object) -> NoReturn:
    """No module is left half read for anything to be tidied up in."""
    os._exit(INTERRUPTED)


def runs_a_command(words: list[str], interpreter: list[str]) -> bool:
    """Whether `crate-compile` or `python -m` with one of our modules is what is being started.

    While Python looks for a module to be run, it reads the packages above it, and the first word is "-m" so far.
    """
    if words[:1] != ["-m"] or "-m" not in interpreter[:-1]:
        return bool(words) and Path(words[0]).stem == "crate-compile"
    return interpreter[interpreter.index("-m") + 1].split(".")[0] in OURS
