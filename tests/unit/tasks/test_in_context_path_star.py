"""In-context path-star: the graph is legible, its path is the answer, and the Clever Hans cheat is told from skill."""

import math
from collections import Counter
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, task_rng
from mnemoscope.tasks.in_context_path_star import (
    CleverHans,
    InContextPathStar,
    InContextPathStarConfig,
    clever_hans,
    is_clever_hans,
)


@st.composite
def configs(draw):
    n_arms, path_length = draw(st.integers(2, 5)), draw(st.integers(3, 6))
    return InContextPathStarConfig(
        n_arms=n_arms,
        path_length=path_length,
        n_nodes=n_arms * (path_length - 1) + 1 + draw(st.integers(0, 40)),
        target=draw(st.sampled_from(["full", "reverse"])),
        teacherless=draw(st.booleans()),
        n_train=draw(st.sampled_from([None, 50])),
    )


def edges_of(words):
    return [tuple(map(int, edge.split(" "))) for edge in " ".join(words).split(" /")[0].split(" | ")]


def slow_distance(words, config, query, answers):
    """From the written sequence: where the newest token stands that answer number `query` needs."""
    equals = words.index("=")
    last = config.path_length - 1
    names_root = query == (last if config.target == "reverse" else 0)
    if names_root:
        return equals + query - (equals - 2)
    first_hop = config.target == "full" and query == 1
    names_goal = query == (0 if config.target == "reverse" else last)
    if config.teacherless or first_hop or names_goal:
        return equals + query - (equals - 1)
    before, answer = answers[query - 1], answers[query]
    edge = (answer, before) if config.target == "reverse" else (before, answer)
    return equals + query - (3 * edges_of(words).index(edge) + 1)


@settings(max_examples=60)
@given(config=configs(), split=st.sampled_from(SPLITS), seed=st.integers(0, 2**32))
def test_the_answer_is_the_path_through_the_graph_that_is_written(config, split, seed):
    task = InContextPathStar(config)
    batch = task.batch(task_rng(seed, split, 0), 3, split)
    d, steps, equals = config.n_arms, config.path_length - 1, 3 * config.n_arms * (config.path_length - 1) + 2
    for row in range(3):
        words = task.words(batch.inputs[row].tolist())
        edges = edges_of(words)
        graph = nx.DiGraph(edges)
        assert len(edges) == len(set(edges)) == d * steps
        assert nx.is_arborescence(graph)
        root, goal = map(int, words[equals - 2 : equals])
        assert words[equals] == "="
        assert sorted(dict(graph.out_degree()).values()) == sorted([d, *[1] * (d * (steps - 1)), *[0] * d])
        assert graph.out_degree(root) == d
        assert graph.out_degree(goal) == 0
        path = nx.shortest_path(graph, root, goal)
        assert len(path) == config.path_length
        answers = path[::-1] if config.target == "reverse" else path
        assert batch.targets[row, task.answers].tolist() == answers
        assert (batch.targets[row, :equals] == IGNORE).all()
        shown = ["$"] * steps if config.teacherless else [str(answer) for answer in answers[:-1]]
        assert words[equals + 1 :] == shown
        for query in range(config.path_length):
            about = {name: int(values[row, equals + query]) for name, values in batch.about.items()}
            distance = slow_distance(words, config, query, answers)
            assert about == {"distance": distance, "load": d * steps, "query": query}
        assert all((values[row, :equals] == -1).all() for values in batch.about.values())


def test_goals_orders_and_labels_are_uniform():
    task = InContextPathStar(InContextPathStarConfig(n_arms=3, path_length=3, n_nodes=9, n_train=None))
    inputs = task.batch(np.random.default_rng(0), 20_000, "train").inputs
    edges = inputs[:, :18].reshape(-1, 6, 3)[:, :, :2]
    root, goal = inputs[:, 18:19], inputs[:, 19:20]
    place_of_goal = np.argmax(edges[:, :, 1] == goal, axis=1)
    place_of_root_edge = np.argmax(edges[:, :, 0] == root, axis=1)
    for values, shares in (
        (place_of_goal, [1 / 6] * 6),
        (root[:, 0], [1 / 9] * 9),
        (goal[:, 0], [1 / 9] * 9),
        (place_of_root_edge, [10 / 20, 6 / 20, 3 / 20, 1 / 20, 0, 0]),
    ):
        counts = np.bincount(values, minlength=len(shares))
        spread = np.sqrt(20_000 * np.array(shares) * (1 - np.array(shares)))
        assert (np.abs(counts - 20_000 * np.array(shares)) <= 5 * spread).all()


@pytest.mark.parametrize("target", ["full", "reverse"])
@pytest.mark.parametrize("teacherless", [False, True])
def test_the_memoryless_loss_is_that_of_counted_pairs(target, teacherless):
    config = InContextPathStarConfig(
        n_arms=2, path_length=3, n_nodes=6, target=target, teacherless=teacherless, n_train=None
    )
    task = InContextPathStar(config)
    batch = task.batch(np.random.default_rng(0), 40_000, "train")
    present, answers = batch.inputs[:, task.answers].ravel(), batch.targets[:, task.answers].ravel()
    pairs = Counter(zip(present.tolist(), answers.tolist(), strict=True))
    of_present = Counter(present.tolist())
    counted = -sum(n * math.log(n / of_present[token]) for (token, _), n in pairs.items()) / answers.size
    expected = math.log(6) if teacherless else (math.log(6) + 2 * math.log(5)) / 3
    assert task.memoryless_loss == pytest.approx(expected)
    assert counted == pytest.approx(expected, abs=2e-3)
    assert task.chance_loss == math.log(6)
    assert task.floor_loss == 0


def cheat(task, inputs, rng):
    """The only child of the shown answer before; at the root, any of its children."""
    said = []
    for row in inputs:
        edges = edges_of(task.words(row.tolist()))
        shown = row[task.answers.start :].tolist()
        root = int(row[task.answers.start - 2])
        said.append([root, *(rng.choice([v for u, v in edges if u == token]) for token in shown[1:])])
    return np.array(said)


@pytest.mark.parametrize("n_arms", [2, 5])
def test_clever_hans_is_found_out(n_arms):
    task = InContextPathStar(InContextPathStarConfig(n_arms=n_arms, path_length=4, n_train=None))
    batch = task.batch(task_rng(0, "test", 0), 1500, "test")
    expected = batch.targets[:, task.answers]
    measured = clever_hans(cheat(task, batch.inputs, np.random.default_rng(0)), expected)
    assert measured.later == 1
    assert measured.first_hop == pytest.approx(1 / n_arms, abs=0.05)
    assert is_clever_hans(measured, n_arms)
    skilled = clever_hans(expected, expected)
    assert skilled == CleverHans(first_hop=1, later=1)
    assert not is_clever_hans(skilled, n_arms)
    assert not is_clever_hans(CleverHans(first_hop=1 / n_arms, later=0.9), n_arms)
    assert task.clever_hans_loss == math.log(n_arms) / 4


def test_clever_hans_by_hand():
    expected = np.array([[0, 1, 2, 3], [0, 4, 5, 6]])
    predicted = np.array([[0, 1, 2, 9], [9, 9, 5, 6]])
    assert clever_hans(predicted, expected) == CleverHans(first_hop=0.5, later=0.75)


def test_the_cheat_has_no_loss_where_nothing_is_given_away():
    config = InContextPathStarConfig(n_arms=3, path_length=4, n_nodes=12)
    assert InContextPathStar(config).clever_hans_loss == pytest.approx(0.2747, abs=1e-4)
    assert InContextPathStar(replace(config, target="reverse")).clever_hans_loss is None
    assert InContextPathStar(replace(config, teacherless=True)).clever_hans_loss is None


def graph_of(task, row):
    return frozenset(edges_of(task.words(row.tolist())))


@pytest.mark.parametrize("n_train", [None, 300])
def test_splits_share_no_graph(n_train):
    task = InContextPathStar(InContextPathStarConfig(n_arms=2, path_length=3, n_nodes=6, n_train=n_train))
    seen = {
        split: {graph_of(task, row) for row in task.batch(np.random.default_rng(0), 400, split).inputs}
        for split in SPLITS
    }
    assert all(seen.values())
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))


def test_a_training_set_of_given_size():
    task = InContextPathStar(InContextPathStarConfig(n_train=7))
    rows = {tuple(row) for row in task.batch(np.random.default_rng(0), 300, "train").inputs.tolist()}
    assert len(rows) == 7
    fresh = InContextPathStar(InContextPathStarConfig(n_train=None))
    assert len({tuple(row) for row in fresh.batch(np.random.default_rng(0), 300, "train").inputs.tolist()}) == 300


def test_the_sequence_of_the_docstring():
    task = InContextPathStar(InContextPathStarConfig(n_arms=2, path_length=3, n_nodes=8, n_train=None))
    batch = task.batch(task_rng(0, "train", 0), 1, "train")
    assert " ".join(task.words(batch.inputs[0].tolist())) == "3 4 | 7 0 | 4 1 | 3 7 / 3 1 = 3 4"
    assert batch.targets[0, -3:].tolist() == [3, 4, 1]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_arms": 1}, "n_arms: must be at least 2, got 1; nearest valid: 2"),
        ({"path_length": 2}, "path_length: must be at least 3, got 2; nearest valid: 3"),
        ({"n_nodes": 8}, r"n_nodes: must be at least n_arms \* \(path_length - 1\) \+ 1 = 9, .* got 8; .*: 9"),
        ({"target": "hardest"}, "target: must be one of full, reverse, got 'hardest'; nearest valid: 'full'"),
        ({"n_train": 0}, "n_train: must be at least 1, .* got 0; nearest valid: 1"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        InContextPathStarConfig(**options)
