"""Editing a memorised graph: which pairs change, and what is measured of it."""

from dataclasses import replace

import numpy as np
import torch

from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.experiments.geometry.editing import Editing, edited, removed, rewired, taught
from mnemoscope.experiments.geometry.in_weights import train_in_weights
from mnemoscope.experiments.geometry.path_star_lessons import spread
from mnemoscope.experiments.geometry.path_star_measures import edge_scores, pair_recall
from mnemoscope.tasks.path_star import PathStar
from tests.unit.experiments.geometry.small_path_stars import NETWORK, TASK, TINY

MEMORISING = replace(TINY, steps=80, every=80, batch_size=None, network=replace(NETWORK, width=32))
EDITS = Editing(
    geometric=MEMORISING,
    associative=replace(MEMORISING, network=replace(MEMORISING.network, freeze=True)),
    step_size=0.03,
    most_steps=400,
    n_edits=1,
)


def as_set(pairs: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, pairs.tolist()))


def test_two_arms_change_tails():
    task = PathStar(TASK)
    one, other = task.paths["train"][:2]
    change = rewired(task, one, other)
    (root, a1, a2, a3), (_, b1, b2, b3) = one.tolist(), other.tolist()
    gone = {(a1, a2), (a2, a1), (b1, b2), (b2, b1)}
    assert as_set(task.pairs) - as_set(change.pairs) == as_set(change.old) == gone
    assert as_set(change.pairs) - as_set(task.pairs) == {(a1, b2), (b2, a1), (b1, a2), (a2, b1)}
    assert sorted(change.sources) == sorted((a1, a2, b1, b2))
    assert change.after.tolist() == [[root, a1, b2, b3], [root, b1, a2, a3]]
    # It is a path-star still: as many neighbours as before.
    degrees = as_graph(change.pairs, TASK.n_nodes).degrees
    assert np.array_equal(degrees, as_graph(task.pairs, TASK.n_nodes).degrees)


def test_an_arm_goes():
    task = PathStar(TASK)
    arm = task.paths["train"][0]
    change = removed(task, arm)
    assert as_set(change.old) == as_set(task.pairs[np.isin(task.pairs, arm[1:]).any(axis=1)])
    assert len(change.pairs) == 48 - 6
    row, entry = spread(change.targets, torch.from_numpy(change.sources))
    found = torch.zeros(4, TASK.n_nodes, dtype=torch.float64)
    found[row, change.targets.target[entry]] = change.targets.share[entry]
    assert torch.equal(found[1:], torch.full_like(found[1:], 1 / TASK.n_nodes))
    assert found[0].max() == 1 / 7
    assert found[0, arm[1]] == 0
    assert (found[0] > 0).sum() == 7


def test_what_is_taught_is_known():
    run = train_in_weights(MEMORISING, 0)
    change = rewired(run.task, *run.task.paths["train"][:2])
    scores = edge_scores(run.model, run.task)
    assert pair_recall(scores, change.pairs, change.sources) < 1
    steps = taught(run.model, run.task, change, EDITS)
    assert 0 < steps < EDITS.most_steps
    assert pair_recall(scores, change.pairs, change.sources) == 1
    assert taught(run.model, run.task, change, EDITS) == 0


def test_a_frozen_table_does_not_move():
    figures = edited(EDITS, 0).figures
    for change in ("rewire", "remove"):
        assert figures[f"geometric {change}: moved"] > figures[f"geometric {change}: moved elsewhere"] > 0
        assert figures[f"associative {change}: moved"] == 0
        for kind in ("geometric", "associative"):
            assert 0 < figures[f"{kind} {change}: steps"] < EDITS.most_steps
    assert figures["geometric rewire: v1 stays"] + figures["geometric rewire: v1 follows"] <= 1
