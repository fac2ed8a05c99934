"""The k-nearest-neighbour score against the votes counted one by one."""

from __future__ import annotations

import math

import torch

from runtime.scoring.neighbours import NEIGHBOURS, Neighbours

GENERATOR = torch.Generator().manual_seed(0)
TRAIN, LABELS = torch.randn(60, 5, generator=GENERATOR), torch.randint(4, (60,), generator=GENERATOR)
QUERIES, ANSWERS = torch.randn(40, 5, generator=GENERATOR), torch.randint(4, (40,), generator=GENERATOR)


def guess(query: torch.Tensor) -> int:
    """Every one of the 20 most similar training vectors votes with exp(cosine / 0.07)."""
    similar = [(float(torch.cosine_similarity(query, t, dim=0)), int(label)) for t, label in zip(TRAIN, LABELS)]  # noqa: B905
    votes = [0.0] * 4
    for cosine, label in sorted(similar, reverse=True)[:20]:
        votes[label] += math.exp(cosine / 0.07)
    return votes.index(max(votes))


def test_the_vote_is_that_of_the_protocol() -> None:
    expected = torch.tensor([guess(query) for query in QUERIES])
    assert len(expected.unique()) == 4
    right = Neighbours(TRAIN, LABELS).right(QUERIES, ANSWERS)
    assert torch.equal(right.bool(), expected == ANSWERS)
    assert torch.equal(Neighbours(TRAIN, LABELS).right(QUERIES, expected), torch.ones(40))


def test_only_directions_count() -> None:
    scaled = torch.rand(60, 1, generator=GENERATOR) + 0.1
    first, second = (Neighbours(train, LABELS).right(QUERIES, ANSWERS) for train in (TRAIN, TRAIN * scaled))
    assert torch.equal(first, second)


def test_few_training_images_are_all_asked() -> None:
    few = Neighbours(TRAIN[:3], torch.tensor([0, 1, 1]))
    assert NEIGHBOURS > 3 and few.right(TRAIN[:1], torch.tensor([0])).tolist() == [1.0]
