import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse

from mnemoscope.examination.geometry.graph import UNREACHABLE, as_graph, as_table

TWO_PARTS = [(0, 1), (1, 2), (3, 4)]
"""A path of three nodes and one of two."""


def test_every_form_of_an_edge_list_is_the_same_graph():
    array = np.array(TWO_PARTS)
    adjacency = sparse.csr_array((np.ones(3), (array[:, 0], array[:, 1])), shape=(5, 5))
    for edges in (TWO_PARTS, array, array[::-1, ::-1], torch.tensor(TWO_PARTS), adjacency, nx.Graph(TWO_PARTS)):
        graph = as_graph(edges)
        np.testing.assert_array_equal(graph.edges, TWO_PARTS)
        assert graph.n_nodes == 5


def test_self_edges_and_repetitions_are_dropped():
    graph = as_graph([(1, 0), (0, 1), (1, 1), (2, 2), (1, 2)])
    np.testing.assert_array_equal(graph.edges, [(0, 1), (1, 2)])
    np.testing.assert_array_equal(graph.degrees, [1, 2, 1])


def test_the_normalised_adjacency_by_hand():
    root = np.sqrt(0.5)
    expected = [[0, root, 0, 0], [root, 0, root, 0], [0, root, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(as_graph([(0, 1), (1, 2)], n_nodes=4).normalised.toarray(), expected)


def test_trivial_vectors_are_eigenvectors_of_one_and_orthonormal():
    graph = as_graph(TWO_PARTS, n_nodes=6)
    trivial = graph.trivial.toarray()
    assert trivial.shape == (6, 3)
    np.testing.assert_allclose(trivial.T @ trivial, np.eye(3), atol=1e-15)
    np.testing.assert_allclose((graph.normalised @ trivial)[:5], trivial[:5], atol=1e-15)
    assert graph.component.tolist() == [0, 0, 0, 1, 1, 2]


def test_deflation_removes_exactly_the_trivial_part():
    graph, table = as_graph(TWO_PARTS), np.random.default_rng(0).normal(size=(5, 3))
    left = graph.deflated(table)
    np.testing.assert_allclose(graph.trivial.T @ left, 0, atol=1e-15)
    np.testing.assert_allclose(graph.deflated(left), left, atol=1e-15)
    np.testing.assert_allclose(graph.trivial @ (graph.trivial.T @ (table - left)), table - left, atol=1e-15)


def test_hops_are_shortest_paths_and_other_components_are_out_of_reach():
    hops = as_graph([*TWO_PARTS, (0, 2)]).hops_from(np.array([0, 3]))
    assert hops.tolist() == [[0, 1, 1, UNREACHABLE, UNREACHABLE], [UNREACHABLE, UNREACHABLE, UNREACHABLE, 0, 1]]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([], "at least one pair"),
        ([(2, 2)], "self-edges only"),
        ([(0, 5)], r"nodes must be 0 \.\.\. 4, a row of the table each, got 5"),
        ([(-1, 2)], "got -1"),
        ([(0, 1, 2)], r"shape \(edges, 2\)"),
        ([(0.5, 1.0)], "whole numbers"),
        ([("a", "b")], "whole numbers"),
    ],
)
def test_what_is_no_edge_list_is_refused(edges: list[object], message: str):
    with pytest.raises(ValueError, match=message):
        as_graph(edges, n_nodes=5)


def test_tables_come_out_in_float64_and_checked():
    table = as_table(torch.arange(6.0, dtype=torch.bfloat16, requires_grad=True).view(3, 2), 3)
    assert table.dtype == np.float64
    assert table.tolist() == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match="must have 4 rows, one for each node, got 3"):
        as_table(table, 4)
    with pytest.raises(ValueError, match=r"shape \(nodes, width\), got \(3,\)"):
        as_table(table[:, 0])
    table[1, 1] = np.inf
    with pytest.raises(ValueError, match=r"got inf in row 1 \(1 of 6 values\); a table that diverged"):
        as_table(table)
