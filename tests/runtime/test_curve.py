"""The curve of a run shows what was logged, and no axis for what was not."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from runtime.images import pictures

TRAIN = [{"step": step, "split": "train", "loss": 1 / step} for step in (1, 2, 3)]
HELD_OUT = [{"step": 3, "split": "held_out", "accuracy": 0.5}]


@pytest.mark.parametrize(
    ("metrics", "labels"),
    [
        (TRAIN + HELD_OUT, ["training loss", "held out: accuracy"]),
        (TRAIN[:1] + HELD_OUT, ["training loss", "held out: accuracy"]),
        (HELD_OUT, ["held out: accuracy"]),
    ],
)
def test_axes(metrics: list[dict], labels: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: kept.append(figure) or path)
    pictures.curve(metrics, "accuracy", tmp_path / "curve.png")
    (figure,) = kept
    (legend,) = figure.legends
    lines = [line for axis in figure.axes for line in axis.lines]
    assert all(len(line.get_xdata()) > 1 or line.get_marker() == "o" for line in lines), "a point is seen"
    assert [axis.get_ylabel() for axis in figure.axes] == [text.get_text() for text in legend.get_texts()] == labels


@pytest.mark.parametrize(("first", "last"), [(1.69, 0.641), (0.01639, 0.00674), (2.3, 1.9), (171.0, 65.0), (2.3, 0.01)])
def test_an_axis_has_at_least_two_numbers(
    first: float, last: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: kept.append(figure) or path)
    losses = [{"step": step, "split": "train", "loss": loss} for step, loss in enumerate((first, last))]
    pictures.curve(losses + HELD_OUT, "accuracy", tmp_path / "curve.png")
    (figure,) = kept
    figure.draw_without_rendering()
    axis = figure.axes[0]
    low, high = axis.get_ylim()
    ticks = [*axis.yaxis.get_major_ticks(), *axis.yaxis.get_minor_ticks()]
    assert sum(bool(tick.label1.get_text()) and low <= tick.get_loc() <= high for tick in ticks) >= 2
