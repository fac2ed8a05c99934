"""What the stems of all inputs share: learned tokens, initial values, and the mask."""

from __future__ import annotations

from crate_dsl.language.model import Word
from crate_dsl.pytorch.parameters import initialised

MASK_STANDARD_DEVIATION = 0.02  # of the mask token, as officially


def weight_lines(own: str, word: Word | None) -> list[str]:
    """The initialisation of a linear map's weight, none where it stays torch's own."""
    line = initialised(own, word) if word else ""
    return [line] if line else []


def token_lines(name: str, shape: str, word: Word | None, deviation: float) -> list[str]:
    """A learned token, or one for every place, and how it starts."""
    own = f"self.{name}"
    default = f"nn.init.normal_({own}, std={deviation!r})"
    return [f"{own} = nn.Parameter(torch.empty({shape}))", (initialised(own, word) if word else "") or default]


def mask_method(unit: str, units: str) -> list[str]:
    """Which tokens are hidden: all but those with the smallest noise."""
    return [
        f"def mask(self, {units}: Tensor, noise: Tensor | None) -> Tensor:",
        f'    """1 where a {unit} is hidden, (batch, {units}); those with the smallest noise stay visible."""',
        "    if noise is None:",
        f"        noise = torch.rand({units}.shape[:2], device={units}.device)",
        f"    visible = int({units}.shape[1] * (1 - self.mask_ratio))",
        "    rank = noise.argsort(dim=1).argsort(dim=1)",
        f"    return (rank >= visible).to({units}.dtype)",
    ]
