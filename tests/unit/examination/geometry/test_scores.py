"""Edge recall, Gram share and margins, against the tasks' own recall, closed cases, and slow loops."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.examination.geometry import scores as module
from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.examination.geometry.scores import edge_recall_of, gram_share, margins
from mnemoscope.tasks.graphs import cycle_edges, edge_recall, named_graph, training_pairs

IRREGULAR = named_graph("irregular")
GRAPH = as_graph(IRREGULAR.edges)


@given(seed=st.integers(0, 10_000), n_values=st.integers(1, 40), n_nan=st.integers(0, 60), self_edges=st.booleans())
def test_recall_is_that_of_the_tasks(seed, n_values, n_nan, self_edges):
    rng = np.random.default_rng(seed)
    scores = rng.integers(n_values, size=(16, 16)).astype(np.float64)
    scores[tuple(rng.integers(16, size=(2, n_nan)))] = np.nan
    pairs = training_pairs(IRREGULAR, "both", self_edges=self_edges)
    found = edge_recall_of(scores, GRAPH, self_edges=self_edges)
    assert found.value == pytest.approx(edge_recall(scores, pairs))
    assert (found.name, found.n, found.over) == ("edge_recall", 16, "nodes")
    forward = training_pairs(IRREGULAR, "forward", self_edges=False)
    assert edge_recall_of(scores, GRAPH, pairs=forward).value == pytest.approx(edge_recall(scores, forward))


def test_recall_goldens():
    path = as_graph([[0, 1], [1, 2]], 4)
    scores = np.array([[9.0, 2, 1, 0], [1, 9, 0, 2], [0, 1, 9, 1], [0, 0, 0, 0]])
    # Node 0 finds 1; node 1 finds 0 and takes 3 for 2; node 2 has 1 and 3 alike; node 3 is not asked.
    assert edge_recall_of(scores, path).value == pytest.approx((1 + 0.5 + 0) / 3)
    assert edge_recall_of(np.full((4, 4), np.nan), path).value == 0


@pytest.mark.parametrize("of", ["rows", "tensor", "tensor rows"])
def test_scores_may_be_a_function_and_come_in_blocks(of, monkeypatch):
    scores = np.random.default_rng(0).standard_normal((16, 16))
    whole = edge_recall_of(scores, GRAPH).value, gram_share(scores, scores[:, :4], GRAPH)
    monkeypatch.setattr(module, "_ENTRIES", 40)
    given = {
        "rows": lambda rows: scores[rows],
        "tensor": torch.tensor(scores),
        "tensor rows": lambda rows: torch.tensor(scores[rows]),
    }
    assert edge_recall_of(given[of], GRAPH).value == whole[0]
    for one, other in zip(gram_share(given[of], scores[:, :4], GRAPH), whole[1], strict=True):
        assert one.value == pytest.approx(other.value)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"scores: must have shape \(16, 16\).* got \(16, 18\)"):
        edge_recall_of(np.zeros((16, 18)), GRAPH)
    with pytest.raises(ValueError, match=r"for 16 rows, got \(16, 3\)"):
        edge_recall_of(lambda rows: np.zeros((len(rows), 3)), GRAPH)


def test_gram_share_of_closed_cases():
    rng = np.random.default_rng(0)
    table = rng.standard_normal((16, 5))
    gram, walk = table @ table.T, GRAPH.adjacency.toarray() / GRAPH.degrees[:, None]
    share, rest = gram_share(3 * gram + rng.standard_normal((16, 1)), table, GRAPH)
    assert share.value == pytest.approx(1)
    assert np.isnan(rest.value)
    assert rest.missing
    share, rest = gram_share(-gram, table, GRAPH)
    assert share.value == pytest.approx(0, abs=1e-12)
    share, rest = gram_share(walk, table, GRAPH)
    centred = [each - each.mean(axis=1, keepdims=True) for each in (walk, gram)]
    slope = max(0, (centred[0] * centred[1]).sum() / (centred[1] ** 2).sum())
    left = centred[0] - slope * centred[1]
    assert share.value == pytest.approx(1 - (left**2).sum() / (centred[0] ** 2).sum())
    assert rest.value == pytest.approx(np.corrcoef(left.ravel(), centred[0].ravel())[0, 1])
    assert rest.value > 0.9
    assert gram_share(np.zeros((16, 16)), table, GRAPH)[0].missing


def test_gram_share_draws_rows_of_large_graphs():
    table = np.random.default_rng(0).standard_normal((16, 5))
    found = gram_share(table @ table.T, table, GRAPH, n_rows=7)
    assert found[0].n == 7
    assert found[0].value == pytest.approx(1)


def slow_gap(logits: np.ndarray) -> list[float]:
    gaps = []
    for u in range(16):
        near = set(GRAPH.adjacency[[u]].indices.tolist())
        gaps.append(max(logits[u, v] for v in near) - max(logits[u, v] for v in range(16) if v != u and v not in near))
    return gaps


def test_margins_are_those_of_a_slow_loop():
    rng = np.random.default_rng(1)
    table, core = rng.standard_normal((16, 6)), rng.standard_normal((6, 6))
    axes = np.linalg.svd(table)[2].T
    skewed = axes @ np.diag(np.diag(axes.T @ core @ axes)) @ axes.T
    original, low_rank = (slow_gap(table @ each @ table.T) for each in (core, skewed))
    found = {metric.name: metric.value for metric in margins(table, core, GRAPH)}
    expected = {
        "margin": np.mean(original),
        "skewed_margin": np.mean(low_rank),
        "skewed_accuracy": np.mean(np.array(low_rank) > 0),
    }
    assert found == pytest.approx(expected)


def test_margins_tell_who_holds_the_graph():
    # E is diagonal, so that its axes are the nodes, and W alone knows who is whose neighbour.
    cycle = as_graph(cycle_edges(7))
    associative = margins(np.diag(np.arange(7.0, 0, -1)), cycle.adjacency.toarray(), cycle)
    assert [metric.value for metric in associative][1:] == [0, 0]
    assert associative[0].value > 0
    angle = 2 * np.pi * np.arange(7) / 7
    geometric = margins(np.stack([np.cos(angle), np.sin(angle)], axis=1), 2 * np.eye(2), cycle)
    margin = 2 * (np.cos(angle[1]) - np.cos(angle[2]))
    assert [metric.value for metric in geometric] == pytest.approx([margin, margin, 1])


def test_margins_need_nodes_that_are_no_neighbours():
    complete = as_graph([[0, 1], [0, 2], [1, 2]])
    assert all(np.isnan(metric.value) for metric in margins(np.eye(3), np.eye(3), complete))
