"""Take common factors out of sums: `eta D'v - eta D'D v` becomes `eta D'(v - D v)`, one product less."""

from __future__ import annotations

from functools import lru_cache

from crate_dsl.operators.cost import MOST_REMEMBERED, Workload, price
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.passes.grouping import LEFT, RIGHT, grouped, groups, hoists


@lru_cache(MOST_REMEMBERED)
def factor(graph: Graph, workload: Workload) -> Graph:
    """The cheapest grouping, again and again, as long as it costs less."""
    while True:
        found = (group for side in (LEFT, RIGHT) for group in groups(graph, side))
        candidates = [grouped(graph, group) for group in found if not hoists(graph, group)]
        best = min(candidates, key=lambda candidate: price(candidate, workload), default=None)
        if best is None or price(best, workload) >= price(graph, workload):
            return graph
        graph = best


def factored_price(graph: Graph, workload: Workload) -> float:
    """The price of a graph once it is factored: a pass that runs before this one has to lower that, not its own."""
    return price(factor(graph, workload), workload)
