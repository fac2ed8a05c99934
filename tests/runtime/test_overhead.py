"""The bare loop beside the runtime's: both learn, both are timed."""

from __future__ import annotations

import pytest
from torch import Tensor

from runtime import overhead
from runtime.errors import UserError
from runtime.training.objective import Objective
from tests.runtime.conftest import SPECS

TINY = ["sizes.d=8", "sizes.K=2", "sizes.L=1", "batch=32"]


def test_a_table_and_a_ratio(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead, "STEPS", 2)
    overhead.main([str(SPECS / "crate_mae.crate"), "--rounds", "2", "accumulate=2", *TINY])
    printed = capsys.readouterr().out
    words = ("this loop", "bare loop", "data", "compute", "overhead", "median of 2 turns")
    assert all(word in printed for word in words)


def test_both_loops_augment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mixed labels are one row for each image, (batch, classes)."""
    seen, forward = [], Objective.forward

    def recorded(self: Objective, inputs: Tensor, labels: Tensor, draw: Tensor | None) -> Tensor:
        seen.append(labels.dim())
        return forward(self, inputs, labels, draw)

    monkeypatch.setattr(overhead, "STEPS", 1)
    monkeypatch.setattr(Objective, "forward", recorded)
    overhead.main([str(SPECS / "crate.crate"), "--rounds", "1", "augmentation.mixup=0.8", *TINY])
    assert seen == [2, 2, 2, 2]


def test_rounds_must_be_some() -> None:
    with pytest.raises(UserError, match="at least 1"):
        overhead.main([str(SPECS / "crate.crate"), "--rounds", "0"])
