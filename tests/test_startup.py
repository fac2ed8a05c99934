"""What is read before the first spec: without collections, and without what writing a network does not need."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from crate_dsl.startup import uncollected

ROOT = Path(__file__).parents[1]
SPEC = "specs/crate_gpt_exact.crate"


def test_nothing_is_collected_meanwhile() -> None:
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_a_collector_at_rest_stays_so() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_was_read_can_still_be_collected() -> None:
    with uncollected():
        circle: list[object] = []
        circle.append(circle)
    del circle
    assert gc.collect() >= 1


def test_a_failing_import_leaves_the_collector_running() -> None:
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()


@pytest.mark.parametrize("module", ["numpy", "networkx", "latex2mathml"])
def test_writing_a_network_does_not_import(module: str) -> None:
    code = f"import sys, crate_dsl; crate_dsl.compile_spec('{SPEC}').text; print('{module}' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
