"""Language modelling: predict every token from those before it (Bengio et al. 2003; Radford et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar, Literal

from torch import Tensor, nn

from runtime.data.source import Batch
from runtime.errors import UserError
from runtime.tasks.task import Call, Task, cross_entropy, wide
from runtime.text.unigram import unigram


class Language(Task):
    """Cross-entropy of the next token in nats; the trivial prediction is the unigram of the training text."""

    name: Literal["language"] = "language"
    networks: ClassVar = ("language",)
    metric: ClassVar = "loss"

    def check(self, network: nn.Module, classes: int | None) -> None:
        super().check(network, classes)
        if not network.causal:
            hint = 'write "causal" in every step that mixes tokens, or mask tokens: mask random(0.15) before encoder'
            raise UserError(f"task language: this network is not causal, so it would see what it predicts; {hint}")

    def loss(self, call: Call, network: nn.Module, batch: Batch, draw: Tensor | None) -> Tensor:
        return cross_entropy(wide(call(batch.inputs)), batch.labels).mean()

    def reference(self, network: nn.Module, batches: Iterable[Batch]) -> Tensor:
        """Log-probabilities of the tokens of the training text, (vocabulary,)."""
        return unigram(batches, network.vocabulary).to(next(network.parameters()).device)

    def scores(
        self, network: nn.Module, batch: Batch, draw: Tensor | None, reference: Tensor | None
    ) -> dict[str, Tensor]:
        logits = wide(network(batch.inputs))
        scores = {
            "loss": cross_entropy(logits, batch.labels).mean(dim=1),
            "accuracy": (logits.argmax(dim=-1) == batch.labels).float().mean(dim=1),
        }
        if reference is not None:
            scores["unigram_loss"] = -reference[batch.labels].mean(dim=1)
            scores["unigram_accuracy"] = (batch.labels == reference.argmax()).float().mean(dim=1)
        return scores

    def summary(self, means: dict[str, float]) -> dict[str, float]:
        return means | {"perplexity": math.exp(min(means["loss"], 700.0))}

    def panels(self, network: nn.Module, batch: Batch, draw: Tensor | None) -> dict[str, Tensor]:
        return {"text": batch.labels, "each token guessed from those before": network(batch.inputs).argmax(dim=-1)}
