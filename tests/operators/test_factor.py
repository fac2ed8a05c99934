"""Factors are taken out of long sums, without trying every group in every round."""

from __future__ import annotations

import sys

import pytest

from crate_dsl.operators.cost import TRAINING
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.lower import lower
from crate_dsl.operators.passes.factor import factor
from crate_dsl.operators.passes.grouping import Group, grouped
from crate_dsl.operators.passes.share import share
from crate_dsl.operators.verify import TOLERANCE, pass_error
from tests.specs import derived, encoder, spec

ENERGY = """energy products(Z: d x N, A: d x d, B: d x d, C: d x d, D: d x d, E: d x d, F: d x d) =
    norm2((A + B + C) * (D + E + F) * Z)
"""


def test_a_sum_of_products_is_factored_in_about_as_many_trials_as_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    text = spec(encoder("descend Z by products(Z, A, B, C, D, E, F)\n"), energies=ENERGY)
    graph = share(next(lower(derived(text)).steps).forward, TRAINING)
    trials = list[Group]()

    def counted(graph: Graph, group: Group) -> Graph:
        trials.append(group)
        return grouped(graph, group)

    monkeypatch.setattr(sys.modules[factor.__module__], "grouped", counted)
    result = factor(graph, TRAINING)
    assert pass_error(graph, result) < TOLERANCE
    assert len(trials) == 27, "one for each of the 3 x 3 x 3 products that are read with the sum of three"
