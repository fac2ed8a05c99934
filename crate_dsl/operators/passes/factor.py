"""Take common factors out of sums: `eta D'v - eta D'D v` becomes `eta D'(v - D v)`, one product less."""

from __future__ import annotations

from functools import lru_cache

from crate_dsl.operators.cost import MOST_REMEMBERED, cost
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.passes.grouping import LEFT, RIGHT, grouped, groups, hoists


@lru_cache(MOST_REMEMBERED)
def factor(graph: Graph, batch: int) -> Graph:
    """The cheapest grouping, again and again, as long as it costs less."""
    while True:
        found = (group for side in (LEFT, RIGHT) for group in groups(graph, side))
        candidates = [grouped(graph, group) for group in found if not hoists(graph, group)]
        best = min(candidates, key=lambda candidate: cost(candidate, batch).time, default=None)
        if best is None or cost(best, batch).time >= cost(graph, batch).time:
            return graph
        graph = best
