"""Recall, decoding and geometry against slow twins."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.examination.geometry.shuffling import orders
from mnemoscope.experiments.geometry import path_star_measures
from mnemoscope.experiments.geometry.path_star_lessons import path_sequences
from mnemoscope.experiments.geometry.path_star_measures import (
    decoded,
    edge_scores,
    forced,
    geometry_figures,
    pair_recall,
    path_figures,
)
from mnemoscope.experiments.geometry.path_star_models import build_network, node_table
from mnemoscope.tasks.graphs import edge_recall
from mnemoscope.tasks.path_star import PathStar
from tests.unit.experiments.geometry.small_path_stars import NETWORK, TASK


@pytest.mark.parametrize("rows", [1, 3, 1024])
@pytest.mark.parametrize("self_edges", [False, True])
def test_recall_is_that_of_all_scores_at_once(monkeypatch: pytest.MonkeyPatch, rows: int, self_edges: bool):
    monkeypatch.setattr(path_star_measures, "ROWS", rows)
    rng = np.random.default_rng(rows)
    n = 9
    for _ in range(20):
        wanted = rng.random((n, n)) < 0.3
        np.fill_diagonal(wanted, self_edges)
        pairs = rng.permutation(np.argwhere(wanted))
        # Few values, so that there are ties; and scores that are no numbers.
        scores = rng.integers(0, 4, (n, n)).astype(np.float64)
        scores[rng.random((n, n)) < 0.1] = np.nan
        found = pair_recall(lambda sources, scores=scores: torch.from_numpy(scores)[sources], pairs)
        assert found == pytest.approx(edge_recall(scores, pairs))


def test_recall_of_some_sources():
    pairs = np.array([[0, 1], [1, 0], [1, 2], [2, 1]])
    scores = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    for only, value in ((None, 2 / 3), ([0], 0.0), ([1, 2], 1.0)):
        chosen = None if only is None else np.array(only)
        assert pair_recall(lambda sources: scores[sources], pairs, chosen) == pytest.approx(value)


@torch.no_grad()
def test_greedy_answers_are_those_of_a_stream():
    task = PathStar(replace(TASK, n_pauses=2))
    model, paths = build_network(NETWORK, task, seed=3), path_sequences(task, "validation", "test")
    said = decoded(model, task, paths)
    for leaf, answers in zip(paths.inputs[:, 1], said, strict=True):
        prompt = torch.tensor([[paths.inputs[0, 0], leaf, *paths.inputs[0, 2:4]]])
        logits, state = model.prefill(prompt)
        token = logits[:, -1].argmax(-1)
        stream = [token.item()]
        for _ in answers[1:]:
            logits, state = model.step(token, state)
            token = logits.argmax(-1)
            stream.append(token.item())
        assert answers.tolist() == stream
    batch = task.path_batch("train")
    shown = forced(model, path_sequences(task, "train"))
    assert torch.equal(shown, model(torch.from_numpy(batch.inputs))[:, task.answers].argmax(-1))


@torch.no_grad()
def test_edge_scores_are_logits_of_edge_sequences():
    task = PathStar(TASK)
    model, batch = build_network(NETWORK, task, seed=0), task.edge_batch()
    logits = model(torch.from_numpy(batch.inputs[:, :2]))[:, 1, : TASK.n_nodes]
    assert torch.equal(edge_scores(model, task)(torch.from_numpy(task.pairs[:, 0])), logits)


def test_figures_of_paths_go_by_node(monkeypatch: pytest.MonkeyPatch):
    """One of two held-out paths goes astray at v1, and every reverse path at its first answer, the copy."""
    for target, astray in (("full", 1), ("reverse", 0)):
        task = PathStar(replace(TASK, target=target))
        model = build_network(NETWORK, task, seed=0)

        def said(model, task, paths, astray=astray, target=target):
            answers = paths.targets.clone()
            answers[: 1 if target == "full" else None, astray] += 1
            return answers

        monkeypatch.setattr(path_star_measures, "decoded", said)
        figures = path_figures(model, task)
        if target == "full":
            assert (figures["path"], figures["v1"], figures["free root"], figures["free leaf"]) == (0.5, 0.5, 1, 1)
            assert figures["train path"] == pytest.approx(5 / 6)
        else:
            assert (figures["path"], figures["path after the copy"], figures["free leaf"]) == (0, 1, 0)


def test_arms_as_clusters_are_geometric():
    """Rows that are those of the arm: a leaf has the row of its first hop, and neighbours are alike."""
    task = PathStar(replace(TASK, n_arms=20))
    n = task.config.n_nodes
    table = np.random.default_rng(0).normal(size=(n, 32))
    drawn = orders(n, 20, 0)
    graph = as_graph(task.edges, n)
    random = geometry_figures(table, graph, task, drawn)
    for split in task.paths.values():
        table[split[:, 1:]] = table[split[:, 1:2]]
    clusters = geometry_figures(table, graph, task, drawn)
    assert abs(random["smoothness z"]) < 4
    assert clusters["smoothness z"] > 20
    assert random["first_hop_top1"] < 0.3
    assert random["first_hop_auc"] < 0.8
    assert clusters["first_hop_auc"] == clusters["first_hop_auc_held_out"] == 1
    assert clusters["zigzag"] < random["zigzag"]


def test_tables():
    task = PathStar(TASK)
    model = build_network(NETWORK, task, seed=0)
    table = node_table(model, TASK.n_nodes)
    assert table.dtype == np.float64
    assert np.array_equal(table, model.embedding.weight[: TASK.n_nodes].detach().double().numpy())
