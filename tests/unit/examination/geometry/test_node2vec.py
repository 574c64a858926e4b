"""Node2Vec in closed form: against autograd node by node, finite differences, and where theory says that it ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import sparse

from benchmarks.node2vec import neighbours_of, per_node_step
from mnemoscope.examination.geometry.closed_forms import cycle_stationary
from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.examination.geometry.node2vec import (
    BlockedResidual,
    DenseResidual,
    Node2VecConfig,
    Walk,
    loss_per_node,
    node2vec,
)
from mnemoscope.tasks.graphs import (
    cycle_edges,
    edge_recall,
    grid_edges,
    named_graph,
    star_paths,
    training_pairs,
    tree_edges,
)
from tests.tolerances import CAUSAL, FLOAT32, FLOAT64, assert_close

SMALL = Node2VecConfig(width=6, steps=5, step_size=0.05)
IRREGULAR = named_graph("irregular").edges
LONELY = (np.array([[0, 1], [1, 2], [4, 5]]), 7)
"""Nodes 3 and 6 have no neighbours."""


def drawn(n: int, width: int, config: Node2VecConfig = SMALL) -> torch.Tensor:
    return torch.randn(n, width, dtype=torch.float64, generator=torch.Generator().manual_seed(config.seed))


def objective(source: torch.Tensor, target: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """J, as it is written."""
    return (targets * torch.log_softmax(source @ target.T, dim=1)).sum()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", FLOAT64), ("float32", FLOAT32)])
@pytest.mark.parametrize("edges", [IRREGULAR, grid_edges(4, 4)])
def test_steps_are_those_of_autograd_node_by_node(edges, dtype, tolerance):
    graph = as_graph(edges)
    slow = drawn(graph.n_nodes, 6).requires_grad_()
    for _ in range(SMALL.steps):
        per_node_step(slow, neighbours_of(graph), SMALL.step_size)
    fast = node2vec(edges, replace(SMALL, dtype=dtype))
    assert fast.source.dtype == dtype
    assert fast.target is fast.source
    assert_close(torch.from_numpy(fast.source), slow.detach(), tolerance)


def test_nodes_without_neighbours_have_no_term():
    edges, n_nodes = LONELY
    slow = drawn(n_nodes, 6).requires_grad_()
    for _ in range(SMALL.steps):
        per_node_step(slow, neighbours_of(as_graph(edges, n_nodes)), SMALL.step_size)
    for block_rows in (None, 2):
        fast = node2vec(edges, replace(SMALL, block_rows=block_rows), n_nodes)
        assert_close(torch.from_numpy(fast.source), slow.detach(), FLOAT64)


@pytest.mark.parametrize("hops", [1, 3])
@pytest.mark.parametrize("self_edges", [0.0, 0.5])
def test_walk_is_the_mean_of_powers(hops, self_edges):
    graph = as_graph(IRREGULAR)
    weights = graph.adjacency.toarray() + self_edges * np.eye(graph.n_nodes)
    each = weights / weights.sum(axis=1, keepdims=True)
    expected = np.mean([np.linalg.matrix_power(each, r) for r in range(1, hops + 1)], axis=0)
    walk, table = Walk(graph, hops, self_edges, torch.float64), drawn(graph.n_nodes, 3)
    assert_close(walk.dense(), torch.from_numpy(expected), FLOAT64)
    assert_close(walk.forward(table), torch.from_numpy(expected) @ table, FLOAT64)
    assert_close(walk.backward(table), torch.from_numpy(expected).T @ table, FLOAT64)


@pytest.mark.parametrize("hops", [1, 2])
@pytest.mark.parametrize("tied", [True, False])
def test_gradient_is_that_of_autograd_and_of_finite_differences(hops, tied):
    graph = as_graph(IRREGULAR)
    walk = Walk(graph, hops, 0.5, torch.float64)
    tables = tuple(drawn(graph.n_nodes, 4, replace(SMALL, seed=seed)).requires_grad_() for seed in range(2 - tied))
    value = objective(tables[0], tables[-1], walk.dense())
    expected = torch.autograd.grad(value, tables)
    assert loss_per_node(walk, tables[0].detach(), tables[-1].detach()) == pytest.approx(-value.item() / 16, abs=1e-12)

    values = [table.detach() for table in tables]
    residual = DenseResidual(walk)
    ours = [residual.tied(values[0])] if tied else residual.products((values[0], values[1]), values[1], values[0])
    for one, other in zip(ours, expected, strict=True):
        assert_close(one, other, FLOAT64)

    step, at = 1e-5, (3, 2)
    sides = []
    for sign in (1, -1):
        values[0][at] += sign * step
        sides.append(-16 * loss_per_node(walk, values[0], values[-1]))
        values[0][at] -= sign * step
    assert float(ours[0][at]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-7)


@pytest.mark.parametrize("block_rows", [1, 7, 16, 100])
@pytest.mark.parametrize("change", [{}, {"tied": False}, {"hops": 3, "self_edges": 1.0}, {"optimiser": "adamw"}])
def test_blocks_of_rows_are_the_dense_form(block_rows, change):
    config = replace(SMALL, **change)
    dense = node2vec(IRREGULAR, config, record_every=2)
    blocked = node2vec(IRREGULAR, replace(config, block_rows=block_rows), record_every=2)
    for one, other in ((dense.source, blocked.source), (dense.target, blocked.target), (dense.loss, blocked.loss)):
        assert_close(torch.from_numpy(other), torch.from_numpy(one), FLOAT64)
    assert dense.trajectory is not None
    assert blocked.trajectory is not None
    assert_close(torch.from_numpy(blocked.trajectory.dynamics), torch.from_numpy(dense.trajectory.dynamics), FLOAT64)


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", FLOAT64), ("float32", FLOAT32)])
def test_blocks_of_rows_are_the_dense_form_of_a_large_hub(dtype, tolerance):
    edges = tree_edges(star_paths(1000, 5))
    config = Node2VecConfig(width=64, steps=2, dtype=dtype)
    dense, blocked = (node2vec(edges, replace(config, block_rows=rows)).source for rows in (None, 300))
    assert_close(torch.from_numpy(blocked), torch.from_numpy(dense), tolerance)


def test_blocks_hold_no_more_than_their_rows():
    residual = BlockedResidual(Walk(as_graph(IRREGULAR), 2, 0.0, torch.float64), 3)
    sizes = [value.numel() for value in vars(residual).values() if isinstance(value, torch.Tensor)]
    assert sizes == [3 * 16, 3 * 16]


def test_untied_is_another_model():
    untied = node2vec(IRREGULAR, replace(SMALL, tied=False))
    assert not np.allclose(untied.source, untied.target)
    start = drawn(16, 12).reshape(2, 16, 6)
    both = [table.clone().requires_grad_() for table in start]
    targets = Walk(as_graph(IRREGULAR), 1, 0.0, torch.float64).dense()
    for _ in range(SMALL.steps):
        gradients = torch.autograd.grad(objective(both[0], both[1], targets), both)
        both = [(one + SMALL.step_size * g).detach().requires_grad_() for one, g in zip(both, gradients, strict=True)]
    assert_close(torch.from_numpy(untied.source), both[0].detach(), FLOAT64)
    assert_close(torch.from_numpy(untied.target), both[1].detach(), FLOAT64)


def test_adamw_is_that_of_torch_on_the_same_loss():
    table = drawn(16, 6).requires_grad_()
    optimiser = torch.optim.AdamW([table], lr=0.05, weight_decay=0.0)
    targets = Walk(as_graph(IRREGULAR), 1, 0.0, torch.float64).dense()
    for _ in range(SMALL.steps):
        optimiser.zero_grad()
        (-objective(table, table, targets)).backward()
        optimiser.step()
    found = node2vec(IRREGULAR, replace(SMALL, optimiser="adamw"))
    assert_close(torch.from_numpy(found.source), table.detach(), FLOAT64)


def test_trajectory_is_what_it_says():
    found = node2vec(IRREGULAR, replace(SMALL, steps=5, tied=False), record_every=2)
    seen = found.trajectory
    assert seen is not None
    assert found.steps.tolist() == [0, 2, 4, 5]
    assert_close(torch.from_numpy(seen.tables[-1]), torch.from_numpy(found.source), CAUSAL)
    adjacency = as_graph(IRREGULAR).adjacency.toarray()
    walk = adjacency / adjacency.sum(axis=1, keepdims=True)
    vectors = seen.eigenvectors
    np.testing.assert_allclose((walk + walk.T) @ vectors, vectors * seen.eigenvalues, atol=1e-12)
    assert np.all(np.diff(seen.eigenvalues) <= 1e-12)
    np.testing.assert_allclose(seen.projections[-1], np.linalg.norm(found.source.T @ vectors, axis=0))
    scores = np.exp(found.source @ found.target.T)
    residual = walk - scores / scores.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(seen.dynamics[-1], np.linalg.norm((residual + residual.T) @ vectors, axis=0))
    assert node2vec(IRREGULAR, replace(SMALL, tied=False)).loss.tolist() == pytest.approx([found.loss[-1]], abs=1e-14)


def test_cycle_ends_where_theory_says():
    expected = cycle_stationary(15)
    found = node2vec(cycle_edges(15), Node2VecConfig(width=100, steps=10_000, step_size=0.01), record_every=5_000)
    seen = found.trajectory
    assert seen is not None
    assert found.loss[-1] == pytest.approx(1.4349, abs=5e-5)
    assert found.loss[-1] == pytest.approx(expected.loss, abs=1e-5)
    # Both waves have the same eigenvalue, and approach each other last.
    np.testing.assert_allclose(seen.projections[-1, 1:3], 6.7513, atol=1e-3)
    both = np.sqrt(np.square(seen.projections[-1, 1:3]).mean())
    assert both == pytest.approx(6.7513, abs=5e-5)
    assert both == pytest.approx(expected.projection, abs=1e-4)
    np.testing.assert_allclose(seen.dynamics[-1, 3:9], np.repeat([0.0605, 0.2885, 0.7131], 2), atol=1e-4)
    np.testing.assert_allclose(seen.dynamics[-1, 3:9], -np.repeat(expected.rates[2:5], 2), atol=1e-4)
    # The constant part stands still once all else is as on a circle.
    np.testing.assert_allclose(seen.projections[-1, 0], seen.projections[-2, 0], rtol=1e-6)


@pytest.mark.parametrize("name", ["path_star", "grid", "cycle", "irregular"])
def test_tiny_graphs_are_known_by_rank(name):
    graph = named_graph(name)
    found = node2vec(graph.edges, Node2VecConfig(steps=2000))
    assert edge_recall(found.source @ found.target.T, training_pairs(graph, "both", self_edges=False)) == 1


def test_divergence_is_refused():
    with pytest.raises(ValueError, match=r"must stay finite.* by step 50; use a step_size below 10"):
        node2vec(tree_edges(star_paths(4, 5)), Node2VecConfig(steps=50, step_size=10.0, dtype="float32"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width: must be at least 1, got 0"),
        ({"hops": 0}, "hops: must be at least 1"),
        ({"block_rows": 0}, "block_rows: must be at least 1"),
        ({"steps": -1}, "steps: must be at least 0"),
        ({"step_size": 0.0}, "step_size: must be above 0"),
        ({"initial_std": float("nan")}, "initial_std: must be above 0"),
        ({"self_edges": -1.0}, "self_edges: must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Node2VecConfig(**change)


def test_edges_may_be_held_in_other_ways():
    edges = as_graph(IRREGULAR)
    as_matrix = node2vec(sparse.coo_array(edges.adjacency), SMALL)
    assert_close(torch.from_numpy(as_matrix.source), torch.from_numpy(node2vec(IRREGULAR, SMALL).source), CAUSAL)
    with pytest.raises(ValueError, match="record_every must be at least 1 step, got 0"):
        node2vec(IRREGULAR, SMALL, record_every=0)
