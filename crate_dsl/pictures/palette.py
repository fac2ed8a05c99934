"""Colours that people with any colour vision tell apart, on screens and on paper (Okabe & Ito 2008).

Nothing is said by colour alone: a verb stands in its pill, a kind of tag has its own outline.
"""

from __future__ import annotations

SKY, GREEN, BLUE, VERMILLION, PURPLE = "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
INK, SOFT, LINE, PAPER, PANEL = "#1A1A1A", "#595959", "#8C8C8C", "#FFFFFF", "#F6F7F9"
VERBS = {
    "compress": BLUE, "descend": BLUE, "sparsify": GREEN, "prox": GREEN, "denoise": VERMILLION, "ascend": VERMILLION,
    "solve": PURPLE, "project": SKY,
}  # fmt: skip
TAGS = {"exact": (GREEN, ""), "approximation": (VERMILLION, "5 3"), "choice": (PURPLE, "1.5 2.5")}  # outline, dashes


def verb(name: str) -> str:
    """The colour of a step; grey for a verb that has none yet."""
    return VERBS.get(name, SOFT)


def tint(colour: str, share: float = 0.14) -> str:
    """The colour thinned with white, for areas behind text."""
    parts = (int(colour[n : n + 2], 16) for n in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02X}" for part in parts)
