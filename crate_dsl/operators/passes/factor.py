"""Take common factors out of sums: `eta D'v - eta D'D v` becomes `eta D'(v - D v)`, one product less."""

from __future__ import annotations

from functools import lru_cache

from crate_dsl.operators.cost import MOST_REMEMBERED, Workload, price
from crate_dsl.operators.graph import Graph
from crate_dsl.operators.passes.grouping import LEFT, RIGHT, Group, grouped, groups, hoists


@lru_cache(MOST_REMEMBERED)
def factor(graph: Graph, workload: Workload) -> Graph:
    """Take out the first factor that makes the graph cheaper, again and again.

    To look for the best one each time would take minutes for a sum of hundreds of terms.
    """
    while (better := _factored_once(graph, workload)) is not None:
        graph = better
    return graph


def factored_price(graph: Graph, workload: Workload) -> float:
    """The price of a graph once it is factored: a pass that runs before this one has to lower that, not its own."""
    return price(factor(graph, workload), workload)


def _factored_once(graph: Graph, workload: Workload) -> Graph | None:
    now = price(graph, workload)
    candidates = (grouped(graph, group) for group in _promising_first(graph))
    return next((candidate for candidate in candidates if price(candidate, workload) < now), None)


def _promising_first(graph: Graph) -> list[Group]:
    """Sums of tokens before those of weights, which are made once; of these the groups of most terms."""
    found = [group for side in (LEFT, RIGHT) for group in groups(graph, side) if not hoists(graph, group)]
    return sorted(found, key=lambda group: (graph[group.number].type.batch, len(group.places)), reverse=True)
