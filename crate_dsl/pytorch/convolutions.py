"""The convolutional stem of XCiT in the written file."""

from __future__ import annotations

from crate_dsl.language.convolutions import halvings
from crate_dsl.pytorch.lines import indented


def convolutions_class(name: str, patch: int, channels: int, d: str, tokens: int) -> list[str]:
    """The class that makes tokens of images; `d` is the written name of the features."""
    widths = [f"{d} // {2**n}" for n in reversed(range(1, halvings(patch)))]
    widths = [str(channels), *widths, d]
    parts = []
    for inner, outer in zip(widths, widths[1:], strict=False):
        parts += [*(["nn.GELU(),"] if parts else []), f"halving({inner}, {outer}),"]
    return [
        f"class {name}(nn.Module):",
        *indented(
            [
                '"""Convolutions that halve the image until one place is one patch (XCiT, El-Nouby et al. 2021)."""',
                "",
                "def __init__(self) -> None:",
                "    super().__init__()",
                "    self.projection = nn.Sequential(",
                *indented(parts, 2),
                "    )",
                "",
                f"def forward(self, images: Tensor) -> Tensor:  # (batch, {tokens}, {d})",
                "    return self.projection(images).flatten(2).transpose(1, 2)",
            ]
        ),
    ]
