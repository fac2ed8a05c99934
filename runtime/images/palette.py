"""Colours that are told apart by every common form of colour blindness, on white and in print."""

from __future__ import annotations

# Okabe and Ito 2008, yellow left out: it vanishes on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
STYLES = ("-", "--")
SEQUENTIAL = "cividis"  # magnitudes: rises in lightness
DIVERGING = "PuOr"  # signed numbers around zero
