"""How many inputs a measure can take, from the operations that it costs: the same on every machine."""

from __future__ import annotations

from crate_dsl import Compilation

WORK = 4e12  # floating-point operations of one measure: some 20 seconds of two idle processor cores
LEAST = 16


def affordable(compilation: Compilation, passes: float, most: int, least: int = LEAST) -> int:
    """The inputs, `least` to `most`, with which `passes` forward passes stay within the work of one measure."""
    return min(most, max(least, int(WORK / (max(1.0, passes) * compilation.costs.flops))))
