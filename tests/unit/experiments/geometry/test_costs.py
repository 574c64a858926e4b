from dataclasses import replace

import numpy as np
import pytest

from mnemoscope.experiments.geometry.costs import (
    GEOMETRIC_COSTS,
    associative_bits,
    associative_norm,
    edge_indicators,
    geometric_bits,
    geometric_costs,
    norm_at_margin,
)
from mnemoscope.tasks.graphs import Graph, GraphName, named_graph

PATH = Graph(n_nodes=4, edges=np.array([[0, 1], [1, 2], [2, 3]]))


def test_bits_by_hand():
    assert associative_bits(PATH) == 3 * 2
    assert geometric_bits(4, width=3, cells=8) == 4 * 3 * 3


@pytest.mark.parametrize("name", ["path_star", "grid", "cycle", "irregular"])
def test_tied_tables_can_store_edges_by_association_alone(name: GraphName):
    """Products are 1 at an edge and 0 at any other pair, in as many dimensions as there are edges."""
    graph = named_graph(name)
    table = edge_indicators(graph)
    products = table @ table.T
    np.testing.assert_array_equal(products - np.diag(graph.degrees()), graph.adjacency())
    assert associative_norm(graph) == pytest.approx(np.sqrt(2 * len(graph.edges)))
    assert norm_at_margin(table, graph) == pytest.approx(associative_norm(graph))


def test_the_norm_at_a_margin_of_one_does_not_know_the_scale():
    table = edge_indicators(PATH)
    assert norm_at_margin(7 * table, PATH) == pytest.approx(norm_at_margin(table, PATH))
    assert norm_at_margin(np.eye(4), PATH) == np.inf


def test_every_claim_is_measured():
    settings = replace(GEOMETRIC_COSTS.sizes["small"], steps=2, width=4)
    measured = geometric_costs(settings, 0)
    assert {claim.figure for claim in GEOMETRIC_COSTS.claims} == measured.figures.keys()
    assert measured.figures["path_star geometric bits"] > measured.figures["path_star associative bits"]
    assert measured.figures["cycle geometric bits"] > measured.figures["cycle associative bits"]
