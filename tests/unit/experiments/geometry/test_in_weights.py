"""Training in weights: what it decides, what it measures, and that geometry finds paths."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from mnemoscope.experiments.geometry.in_weights import InWeights, batches, train_in_weights
from mnemoscope.experiments.geometry.path_star import SMALL
from mnemoscope.experiments.geometry.path_star_lessons import lessons_of
from mnemoscope.experiments.geometry.path_star_models import build_network, node_table
from mnemoscope.tasks.path_star import PathStar
from tests.unit.experiments.geometry.small_path_stars import NETWORK, TASK, TINY

MEMORISING = replace(TINY, steps=60, every=30, batch_size=None, n_shuffles=5)


def test_a_run_is_a_function_of_config_and_seed():
    one, again, other = (train_in_weights(replace(TINY, keep_tables=True), seed) for seed in (0, 0, 1))
    np.testing.assert_equal(one.rows, again.rows)
    assert np.array_equal(one.table, again.table)
    assert not np.array_equal(one.table, other.table)
    assert [row["step"] for row in one.rows] == [2, 4]
    assert list(one.tables) == [2, 4]
    assert np.array_equal(one.tables[4], one.table)
    assert not np.array_equal(one.tables[2], one.table)


def test_edges_and_paths_are_memorised():
    run = train_in_weights(MEMORISING, 0)
    assert run.end("edge recall") == run.end("train path") == 1
    assert 0 < run.end("edge loss") - run.end("edge floor") < 1
    # Edges of both directions, of a root of 8 arms of 3 nodes more.
    assert run.end("edge floor") == pytest.approx((8 * np.log(8) + 2 * 8 * 2 * np.log(2)) / 48)
    assert run.end("path loss") < 1


def test_a_frozen_table_stays_and_memorises_all_the_same():
    frozen = replace(MEMORISING, network=replace(NETWORK, freeze=True, width=32))
    run = train_in_weights(frozen, 0)
    assert np.array_equal(run.table, node_table(build_network(frozen.network, run.task, 0), TASK.n_nodes))
    assert run.end("train path") == 1
    assert abs(run.end("smoothness z")) < 6


def test_edges_alone_have_no_figures_of_paths():
    run = train_in_weights(replace(TINY, task=replace(TASK, stage="edges")), 0)
    assert "path" not in run.rows[0]
    assert "path loss" not in run.rows[0]
    assert run.end("edge loss") > run.end("edge floor")
    paths = train_in_weights(replace(TINY, task=replace(TASK, stage="paths")), 0, start=run.model)
    assert paths.model is run.model
    assert "edge loss" not in paths.rows[0]
    assert not np.array_equal(paths.table, run.table)


def test_it_stops_where_it_has_learned():
    easy = replace(MEMORISING, stop_at=0.0, every=5)
    run = train_in_weights(easy, 0)
    assert [row["step"] for row in run.rows] == [5]
    assert run.first("path", 0.0) == 5
    assert run.first("path", 2.0) == float("inf")
    never = train_in_weights(replace(easy, stop_at=2.0, steps=12), 0)
    assert [row["step"] for row in never.rows] == [5, 10, 12]
    assert never.peak("edge recall") == max(never.curve("edge recall"))


def test_batches():
    task = PathStar(TASK)
    lessons = lessons_of(task, 1, torch.device("cpu"))
    for config, n_edges, n_paths in (
        (replace(TINY, batch_size=None), 48, 6),
        (replace(TINY, path_share=0.25, batch_size=16), 12, 4),
        (replace(TINY, path_share=0.999, batch_size=16), 1, 15),
    ):
        for edges, paths in islice(batches(lessons, config, 0), 3):
            assert (edges.n, len(paths.inputs)) == (n_edges, n_paths)
            assert edges.weight.sum() == n_edges
    drawn = [edges.n for edges, _ in islice(batches(lessons, TINY, 0), 27)]
    assert sum(drawn) == 27 * 16 * 48 // 54
    assert len(set(drawn)) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hops": 2, "edge_loss": "sampled"}, r"InWeights\.hops: must be 1 where edges are sampled"),
        ({"path_share": 1.0}, r"InWeights\.path_share: must be between 0 and 1"),
        ({"path_share": 0.5, "batch_size": None}, r"InWeights\.path_share: must be .* and a batch_size"),
        (
            {"stop_at": 0.9, "task": replace(TASK, stage="edges")},
            r"InWeights\.stop_at: must be None with stage='edges'",
        ),
        ({"warmup_steps": 9}, r"TrainConfig\.warmup_steps: must be between 0 and steps = 4, got 9"),
        ({"every": 0}, r"InWeights\.every: must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_trained(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **options)


@pytest.mark.long
def test_fifty_arms_are_found_where_the_embedding_learns():
    """The bar of the specification: 400 steps on G(50,4)."""
    config: InWeights = replace(
        SMALL, task=replace(SMALL.task, n_arms=50, path_length=4), batch_size=256, steps=400, every=100
    )
    run = train_in_weights(config, 0)
    assert run.end("path") >= 0.2
    assert run.end("first_hop_top1") >= 0.9
    frozen = train_in_weights(replace(config, network=replace(config.network, freeze=True)), 0)
    assert frozen.end("train path") == 1
    assert frozen.end("v1") <= 0.1
