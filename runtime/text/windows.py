"""A long text cut into windows, each with the tokens that follow its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from runtime import seeds
from runtime.data.source import Batch


@dataclass(frozen=True)
class Windows:
    """As many windows as fit side by side; varied, each starts up to a window later."""

    tokens: Tensor
    length: int

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def take(self, indices: Sequence[int], draw: tuple[int, int] | None) -> Batch:
        """Inputs (batch, length) and, as labels, the tokens that follow them."""
        places = torch.tensor([self.start(int(i), draw) for i in indices]).unsqueeze(1) + torch.arange(self.length + 1)
        window = self.tokens[places].long()
        return Batch(window[:, :-1].contiguous(), window[:, 1:].contiguous())

    def start(self, index: int, draw: tuple[int, int] | None) -> int:
        generator = seeds.augmentation(draw, index)
        shift = int(generator.integers(self.length)) if generator else 0
        return min(index * self.length + shift, len(self.tokens) - 1 - self.length)
