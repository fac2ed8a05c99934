"""A floor under regressions: what the shipped specs cost is known to the last operation."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest

from crate_dsl.operators.cost import TRAINING, price
from tests.operators.counts import COMMAND, SPECS, counted, differences, forms, stored, text

STORED = stored()


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_costs_are_those_of_the_file(path: Path) -> None:
    changes = differences(path.stem, STORED.get(path.stem, {}), counted(path))
    assert not changes, "\n".join(["", *changes, f"if this is meant, accept it: {COMMAND}"])


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_no_spec_costs_more_than_as_lowered(path: Path) -> None:
    """But for causal graphs, whose lowered costs are those of the longest prefix alone."""
    pairs = {name: pair for name, pair in forms(path).items() if not pair[0].causal}
    dearer = {name for name, (a, b) in pairs.items() if price(b, TRAINING) > price(a, TRAINING)}
    assert not dearer


def test_every_spec_is_in_the_file_and_nothing_else() -> None:
    assert list(STORED) == [path.stem for path in SPECS], f"write the file anew: {COMMAND}"


def test_a_change_is_told_with_both_numbers() -> None:
    (spec, old), *_ = STORED.items()
    new, name = deepcopy(old), next(iter(old))
    nodes, flops, moved = old[name]["optimised"]
    new[name]["optimised"] = [nodes + 1, 2 * flops, moved]
    found = differences(spec, old, new)
    assert found == [
        f"{spec} {name}, optimised: flops {flops:,} -> {2 * flops:,} (+100.00 %)",
        f"{spec} {name}, optimised: nodes {nodes} -> {nodes + 1} ({100 / nodes:+.2f} %)",
    ]
    del new[name]
    assert differences(spec, old, new) == [f"{spec} {name}: gone"] and differences(spec, old, old) == []


def test_the_file_has_a_line_for_every_graph() -> None:
    written = text(STORED)
    assert json.loads(written) == STORED
    assert sum('"lowered"' in line for line in written.splitlines()) == sum(map(len, STORED.values()))
