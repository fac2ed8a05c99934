"""Reading modules without the collector of garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
