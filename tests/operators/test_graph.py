"""What is asked of a graph, beside the answers of networkx."""

from __future__ import annotations

import networkx
import pytest

from crate_dsl.operators.graph import Graph
from tests.steps import graphs

GRAPHS = dict(graphs())


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_neighbours_and_everything_before_and_behind(graph: Graph) -> None:
    network = graph.network()
    assert networkx.is_directed_acyclic_graph(network)
    for number, operator in network.nodes(data="operator"):
        assert operator == graph[number]
        assert graph.users(number) == sorted(network.successors(number))
        assert graph.needed_for([number]) == {number, *networkx.ancestors(network, number)}
        assert graph.made_of([number]) == {number, *networkx.descendants(network, number)}
        assert list(graph.giving((("one", number),))) == sorted(graph.needed_for([number]))


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_of_several(graph: Graph) -> None:
    network, numbers = graph.network(), list(graph)[::3]
    assert graph.needed_for(numbers) == set(numbers).union(*(networkx.ancestors(network, n) for n in numbers))
    assert graph.made_of(numbers) == set(numbers).union(*(networkx.descendants(network, n) for n in numbers))
