"""Tiny graphs: every pair is asked as often, and nothing else is."""

import math
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemoscope.tasks import SPLITS, task_rng
from mnemoscope.tasks.tiny_graphs import TinyGraphs, TinyGraphsConfig

CONFIGS = st.builds(
    TinyGraphsConfig,
    graph=st.sampled_from(["path_star", "grid", "cycle", "irregular"]),
    directions=st.sampled_from(["both", "forward", "backward"]),
    self_edges=st.booleans(),
    tags=st.booleans(),
)


@given(config=CONFIGS, split=st.sampled_from(SPLITS), seed=st.integers(0, 2**32))
def test_a_batch_of_all_pairs_holds_each_once(config, split, seed):
    task = TinyGraphs(config)
    batch = task.batch(task_rng(seed, split, 0), len(task.pairs), split)
    asked = list(zip(batch.inputs[:, -1].tolist(), batch.targets[:, -1].tolist(), strict=True))
    expected = []
    for u, v in task.edges.tolist():
        expected += [(u, v)] * (config.directions != "backward") + [(v, u)] * (config.directions != "forward")
    expected += [(u, u) for u in task.node_tokens.tolist() if config.self_edges]
    assert Counter(asked) == Counter(expected)
    assert task.length == 1 + config.tags
    assert (batch.inputs[:, :-1] == task.graph.n_nodes).all()
    assert (batch.targets[:, :-1] == -100).all()
    for values in batch.about.values():
        assert (values[:, -1] == 0).all()
        assert (values[:, :-1] == -1).all()
    open_nats = [math.log(Counter(source for source, _ in expected)[source]) for source, _ in expected]
    assert task.floor_loss == task.memoryless_loss == pytest.approx(sum(open_nats) / len(open_nats), abs=1e-12)


def test_the_tokens_of_the_docstring():
    task = TinyGraphs(TinyGraphsConfig(graph="cycle"))
    assert task.words([15, 4]) == ["EDGE", "4"]
    assert sorted(task.pairs[task.pairs[:, 0] == 4, 1].tolist()) == [3, 5]
    assert task.vocab_size == 16
    assert task.chance_loss == math.log(15)


def test_the_graph_is_at_hand_for_an_examination():
    task = TinyGraphs(TinyGraphsConfig(graph="irregular"))
    graph = nx.from_edgelist(task.edges.tolist())
    assert sorted(graph) == task.node_tokens.tolist() == list(range(16))
    assert sorted(map(len, nx.connected_components(graph))) == [4, 12]


@pytest.mark.parametrize("split", SPLITS)
def test_held_out_pairs_come_once_at_most(split):
    task = TinyGraphs(TinyGraphsConfig(graph="cycle"))
    if split == "train":
        assert task.n_sequences(split) is None
        assert task.batch(task_rng(0, split, 0), 31, split).size == 31
        return
    assert task.n_sequences(split) == 30
    with pytest.raises(ValueError, match=r"size must be at most 30, the sequences of the .* got 31; nearest valid: 30"):
        task.batch(task_rng(0, split, 0), 31, split)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"graph": "torus"}, "graph: must be one of path_star, grid, .* got 'torus'; nearest valid: 'path_star'"),
        ({"directions": "up"}, "directions: must be one of both, .* got 'up'; nearest valid: 'both'"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        TinyGraphsConfig(**options)


def test_the_batch_of_the_first_release():
    task = TinyGraphs(TinyGraphsConfig())
    batch = task.batch(np.random.default_rng(0), 3, "train")
    assert batch.inputs.tolist() == [[17, 0], [17, 14], [17, 8]]
    assert batch.targets[:, 1].tolist() == [5, 13, 7]
