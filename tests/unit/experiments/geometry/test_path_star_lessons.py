"""What a step reads, and its loss against the padded sequences of the task."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.experiments.geometry.path_star_lessons import (
    EdgeLoss,
    edge_floor,
    lessons_of,
    losses,
    passes,
    spread,
    targets_of,
)
from mnemoscope.experiments.geometry.path_star_models import build_network
from mnemoscope.models import Stack
from mnemoscope.tasks.graphs import conditional_entropy
from mnemoscope.tasks.path_star import PathStar, PathStarConfig
from tests.tolerances import FLOAT64, assert_close
from tests.unit.experiments.geometry.small_path_stars import NETWORK, TASK

CPU = torch.device("cpu")
TASKS = [
    TASK,
    replace(TASK, directions="forward", n_pauses=3),
    replace(TASK, self_edges=True, target="hardest"),
    replace(TASK, tags=False, target="reverse", branching=2),
]


def network_of(task: PathStar) -> Stack:
    return build_network(NETWORK, task, seed=0).double()


def padded(model: Stack, task: PathStar) -> Tensor:
    """The loss as the task's own batches give it: logits everywhere, padding ignored."""
    total, n = torch.zeros((), dtype=torch.float64), 0
    for batch in (task.edge_batch(), task.path_batch("train")):
        logits, targets = model(torch.from_numpy(batch.inputs)), torch.from_numpy(batch.targets)
        total = total + F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
        n += int((targets != IGNORE).sum())
    return total / n


def gradients(model: Stack, loss: Tensor) -> list[Tensor]:
    return [g for g in torch.autograd.grad(loss, list(model.parameters()), allow_unused=True) if g is not None]


@pytest.mark.parametrize("edge_loss", ["expected", "sampled"])
@pytest.mark.parametrize("config", TASKS)
def test_a_full_batch_is_the_loss_of_the_padded_sequences(config: PathStarConfig, edge_loss: EdgeLoss):
    """Which also says that expected and sampled edges have one gradient."""
    task = PathStar(config)
    model, lessons = network_of(task), lessons_of(task, 1, CPU)
    n_pairs, n_paths = len(lessons.sources), len(lessons.paths.inputs)
    edges = lessons.edges(torch.randperm(n_pairs), edge_loss)
    found = losses(model, edges, lessons.chosen_paths(torch.arange(n_paths)))
    expected = padded(model, task)
    assert (found.n_edges, found.n_paths) == (n_pairs, lessons.paths.targets.numel())
    assert_close(found.mean(), expected, FLOAT64)
    for ours, theirs in zip(gradients(model, found.mean()), gradients(model, expected), strict=True):
        assert_close(ours, theirs, FLOAT64)


def test_equal_sources_are_one_row_of_their_weight():
    task = PathStar(TASK)
    lessons = lessons_of(task, 1, CPU)
    root = int(task.paths["train"][0, 0])
    chosen = torch.from_numpy(np.flatnonzero(task.pairs[:, 0] == root)[:3])
    sampled, expected = lessons.edges(chosen, "sampled"), lessons.edges(chosen, "expected")
    assert sampled.inputs.shape == expected.inputs.shape == (1, 2)
    assert sampled.weight.tolist() == expected.weight.tolist() == [3.0]
    assert sampled.target.tolist() == task.pairs[chosen, 1].tolist()
    assert sorted(expected.target.tolist()) == sorted(task.pairs[task.pairs[:, 0] == root, 1])
    assert expected.share.tolist() == pytest.approx([3 / TASK.n_arms] * TASK.n_arms)


def test_targets_of_one_and_two_hops():
    """The path 0 - 1 - 2: two steps from its end lead back or to the other end."""
    pairs = np.array([[0, 1], [1, 0], [1, 2], [2, 1]])
    for hops, rows in ((1, [[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]]), (2, [[0.25, 0.5, 0.25]] * 1)):
        targets = targets_of(pairs, 3, hops)
        row, entry = spread(targets, torch.arange(len(rows)))
        found = torch.zeros(len(rows), 3, dtype=torch.float64)
        found[row, targets.target[entry]] = targets.share[entry]
        assert found.tolist() == rows


def test_floors():
    for config in TASKS:
        task = PathStar(config)
        exact = conditional_entropy(task.pairs[:, 0], task.pairs[:, 1])
        assert edge_floor(task.pairs, targets_of(task.pairs, config.n_nodes)) == pytest.approx(exact, abs=1e-6)
    path = np.array([[0, 1], [1, 0], [1, 2], [2, 1]])
    # Laws (1/4, 1/2, 1/4) of the ends, and (1/4, 1/2, 1/4) of the middle too: 1.5 ln 2 each.
    assert edge_floor(path, targets_of(path, 3, 2)) == pytest.approx(1.5 * np.log(2))


def test_stages_leave_out_what_they_do_not_train():
    edges = lessons_of(PathStar(replace(TASK, stage="edges")), 1, CPU)
    paths = lessons_of(PathStar(replace(TASK, stage="paths")), 1, CPU)
    assert (len(edges.sources), len(edges.paths.inputs)) == (48, 0)
    assert (len(paths.sources), len(paths.paths.inputs)) == (0, 6)


def test_passes_show_every_number_as_often():
    drawn = torch.cat(list(islice(passes(7, 3, torch.Generator().manual_seed(0)), 7)))
    assert drawn.shape == (21,)
    for one in drawn.split(7):
        assert sorted(one.tolist()) == list(range(7))
    assert len(set(map(tuple, drawn.view(3, 7).tolist()))) == 3
    wide = next(passes(3, 8, torch.Generator().manual_seed(0)))
    assert torch.bincount(wide, minlength=3).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])
