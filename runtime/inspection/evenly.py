"""Some of many, at equal distances."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def positions(count: int, most: int) -> list[int]:
    """At most `most` (two or more) of the places 0 to count - 1, the first and the last among them.

    >>> positions(10, 4)
    [0, 3, 6, 9]
    """
    if count <= most:
        return list(range(count))
    return [round(number * (count - 1) / (most - 1)) for number in range(most)]


def some(items: Iterable[Item], most: int) -> list[Item]:
    """The items at these places."""
    items = list(items)
    return [items[place] for place in positions(len(items), most)]
