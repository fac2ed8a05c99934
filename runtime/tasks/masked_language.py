"""Masked language modelling: predict the removed tokens from all others (Devlin et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from runtime.data.source import Batch
from runtime.tasks.task import Call, Task, cross_entropy, wide
from runtime.text.alphabet import HIDDEN
from runtime.text.unigram import unigram


class MaskedLanguage(Task):
    """Cross-entropy of the removed tokens in nats, all of which become the mask token.

    The trivial prediction is the unigram of the training text: its guess is always the most frequent token.
    """

    name: Literal["masked_language"] = "masked_language"
    networks: ClassVar = ("masked_language",)
    metric: ClassVar = "masked_loss"

    def draw(self, network: nn.Module, images: int, generator: torch.Generator) -> Tensor:
        return torch.rand(images, network.token_count, generator=generator)

    def inputs(self, images: Tensor, draw: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return images, draw

    def loss(self, call: Call, network: nn.Module, batch: Batch, draw: Tensor | None) -> Tensor:
        logits, mask = call(batch.inputs, draw)
        return over_removed(cross_entropy(wide(logits), batch.inputs), mask).mean()

    def reference(self, network: nn.Module, batches: Iterable[Batch]) -> Tensor:
        """Log-probabilities of the tokens of the training text, (vocabulary,)."""
        return unigram(batches, network.vocabulary).to(next(network.parameters()).device)

    def scores(
        self, network: nn.Module, batch: Batch, draw: Tensor | None, reference: Tensor | None
    ) -> dict[str, Tensor]:
        logits, mask = network(batch.inputs, draw)
        right = (logits.argmax(dim=-1) == batch.inputs).float()
        scores = {
            "masked_loss": over_removed(cross_entropy(wide(logits), batch.inputs), mask),
            "masked_accuracy": over_removed(right, mask),
        }
        if reference is not None:
            scores["unigram_loss"] = over_removed(-reference[batch.inputs], mask)
            scores["unigram_accuracy"] = over_removed((batch.inputs == reference.argmax()).float(), mask)
        return scores

    def panels(self, network: nn.Module, batch: Batch, draw: Tensor | None) -> dict[str, Tensor]:
        logits, mask = network(batch.inputs, draw)
        return {
            "text": batch.inputs,
            "without the removed tokens": batch.inputs.masked_fill(mask == 1, HIDDEN),
            "with the removed predicted": torch.where(mask == 1, logits.argmax(dim=-1), batch.inputs),
        }


def over_removed(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the removed tokens of each text, (batch,); every text has equally many of them."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1)
