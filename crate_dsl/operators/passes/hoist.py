"""Hoist weight-only algebra out of the tokens: `v + eta D'v - eta D'D v` becomes `M v`, `M = I + eta D' - eta D'D`.

M is made once per step and costs d^3; in return every token costs one product instead of two. When tokens outnumber
features that wins.
"""

from __future__ import annotations

from functools import partial

from crate_dsl.operators.cost import Workload
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.passes.factor import factored_price
from crate_dsl.operators.passes.grouping import RIGHT, grouped, groups, hoists


def hoist(graph: Graph, workload: Workload) -> Graph:
    """Collect the weights before common tokens, where that beats what factoring alone would reach."""
    now = factored_price(graph, workload)
    for group in filter(partial(hoists, graph), groups(graph, RIGHT)):
        candidate = grouped(graph, group)
        if factored_price(candidate, workload) < now:
            return hoist(candidate, workload)
    return graph
