"""Names of files made of labels."""

from __future__ import annotations

import re
from collections.abc import Container


def as_file_name(label: str, longest: int) -> str:
    """A label without what file systems dislike; letters of any script stay."""
    return re.sub(r"[^\w.+-]+", "-", label.replace("=", "-")).strip("-")[:longest]


def numbered(name: str, taken: Container[str], pattern: str = "{}-{}") -> str:
    """The name itself, or with the first number, from 2 on, that makes it one that is not taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = pattern.format(name, number)
    return found
