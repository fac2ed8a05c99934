"""One legend for several charts is true of each of them, and axes say how large things are."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D

from runtime.instruments.drawing.charts import Chart, Line, charts


def look(line: Line2D) -> tuple[str, str]:
    return to_hex(line.get_color()), line.get_linestyle()


def test_a_line_looks_the_same_in_every_chart_and_in_the_legend() -> None:
    """Steps of one network may have different approximations: their charts then hold different lines."""
    names = ["free", "identity"], ["fixed"], ["fixed", "identity", "free"]
    figure = charts([Chart("", ["0", "1"], [Line(name, [0.0, 1.0]) for name in each]) for each in names])
    (legend,) = figure.legends
    shown = {text.get_text(): look(line) for text, line in zip(legend.get_texts(), legend.legend_handles, strict=True)}
    drawn = [(each.get_label(), each[0]) for axis in figure.axes for each in axis.containers]
    assert set(shown) == {"free", "identity", "fixed"} and len(set(shown.values())) == 3
    assert all(look(line) == shown[label] for label, line in drawn)
    assert len({(label, line.get_marker()) for label, line in drawn}) == 3


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.9), (0.3, 3.0), (0.12, 9.5), (2e-3, 0.5), (1.0, 9.0), (1.0, 1000.0)])
def test_a_logarithmic_axis_has_at_least_two_numbers(low: float, high: float) -> None:
    figure = charts([Chart("", ["0", "1"], [Line("x", [low, high])], logarithmic=True)])
    figure.draw_without_rendering()
    (axis,) = figure.axes
    ends = axis.get_ylim()
    ticks = [*axis.yaxis.get_major_ticks(), *axis.yaxis.get_minor_ticks()]
    shown = [each for each in ticks if each.label1.get_text() and ends[0] <= each.get_loc() <= ends[1]]
    assert len(shown) >= 2
