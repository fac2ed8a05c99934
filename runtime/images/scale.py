"""Axes on which equal factors are equally far apart, with enough numbers on them."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter


def logarithmic(axis: Axes) -> None:
    """A logarithmic vertical axis, with plain numbers also between the powers of ten where fewer than two are on it."""
    axis.set_yscale("log", nonpositive="mask")
    low, high = axis.get_ylim()
    if high < 100 * low:
        axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    powers = math.floor(math.log10(high)) - math.ceil(math.log10(low)) + 1  # of ten, inside the limits
    axis.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}") if powers < 2 else NullFormatter())
    if powers < 2 and high > 4 * low:
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))  # the numbers of all would lie on each other
