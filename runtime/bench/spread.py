"""Medians with their range, and ratios taken pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The median of several measurements, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(median(values), min(values), max(values))


def ratios(values: Sequence[float], reference: Sequence[float]) -> Spread:
    """Of each measurement to that of the reference in the same round: what slows a whole round cancels.

    >>> ratios([2.0, 3.0, 8.0], [4.0, 4.0, 8.0])
    Spread(median=0.75, least=0.5, greatest=1.0)
    """
    return Spread.of([value / other for value, other in zip(values, reference, strict=True)])
