"""The arithmetic of the compiler's times; times themselves depend on the machine and are not tested."""

from __future__ import annotations

import sys

import pytest

from runtime import compile_time
from runtime.compile_time import DEEP, SHALLOW, SYMPY, Row, depth_row, measure, ratio, spec_rows
from runtime.errors import UserError


@pytest.mark.parametrize(
    ("sympy", "spec", "within"), [(0.2, 0.8, False), (0.5, 0.8, True), (0.2, 0.69, True), (0.5, 1.1, False)]
)
def test_the_larger_bound_counts(sympy: float, spec: float, within: bool) -> None:
    (row,) = spec_rows({SYMPY: [sympy], "a": [spec], SHALLOW: [1], DEEP: [1]})
    assert row == Row("a", spec, pytest.approx(spec / sympy), 2.0, 0.7)
    assert row.within is within


def test_ratios_are_taken_round_by_round() -> None:
    assert ratio([1.0, 2.0, 9.0], [0.5, 1.0, 4.5]) == 2.0
    assert ratio([2.0, 2.0, 12.0], [1.0, 1.0, 2.0]) == 2.0


@pytest.mark.parametrize(("deep", "within"), [([0.5, 0.6, 5.0], True), ([0.7, 0.7, 0.5], False)])
def test_depth_is_compared_with_depth(deep: list[float], within: bool) -> None:
    assert depth_row({SHALLOW: [0.5, 0.5, 0.5], DEEP: deep}).within is within


def test_commands_take_turns_and_a_failure_is_told() -> None:
    times = measure({"one": [sys.executable, "-c", ""], "two": [sys.executable, "-c", ""]}, rounds=2)
    assert list(times) == ["one", "two"] and all(len(own) == 2 and min(own) > 0 for own in times.values())
    with pytest.raises(UserError, match="no such luck"):
        measure({"bad": [sys.executable, "-c", "raise SystemExit('no such luck')"]}, rounds=1)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(compile_time, "_seconds", lambda command: 0.9 if "aot" in " ".join(command) else 0.1)
    with pytest.raises(UserError, match=r"slower than allowed: aot, aot_vision$"):
        compile_time.main(["--rounds", "1"])
    assert "crate_mae" in capsys.readouterr().out
    with pytest.raises(UserError, match="at least one round"):
        compile_time.main(["--rounds", "0"])
