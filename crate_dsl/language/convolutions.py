"""`convolutions(patch)`: each halves the image and doubles the features (El-Nouby et al. 2021, XCiT)."""

from __future__ import annotations

from crate_dsl.language.model import Word
from crate_dsl.language.report import Report
from crate_dsl.language.sizes import Scope


def halvings(patch: int) -> int:
    """How many convolutions make one place of a patch.

    >>> halvings(16)
    4
    """
    return patch.bit_length() - 1


def check_convolutions(stem: Word, rows: str, scope: Scope, report: Report) -> bool:
    """Whether the patch is a power of two and the features can be halved back to the first convolution."""
    (patch,) = stem.arguments
    if patch < 2 or patch & (patch - 1):
        near = max(2, 1 << halvings(patch))
        report.error(f"convolutions do not make patches of {patch}", stem.span, f"each halves the image: write {near}")
        return False
    first = patch // 2
    if (width := int(scope.values.get(rows, first))) % first:
        notes = [(scope.origins[rows], f"{rows} comes from here")] if rows in scope.origins else []
        hint = f"the first of {halvings(patch)} convolutions has {rows} / {first} features, and {rows} = {width}"
        report.error("the features of the convolutions do not fit", stem.span, hint, notes)
        return False
    return True
