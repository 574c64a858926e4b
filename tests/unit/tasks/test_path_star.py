"""In-weights path-star: edges and paths of one fixed graph, and paths that no training sequence shows."""

import math
from collections import Counter, defaultdict
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.contracts.batch import IGNORE
from mnemoscope.tasks import SPLITS, task_rng
from mnemoscope.tasks.graphs import training_pairs
from mnemoscope.tasks.path_star import PathStar, PathStarConfig, stages


@st.composite
def configs(draw):
    tags = draw(st.booleans())
    return PathStarConfig(
        n_arms=draw(st.integers(4, 12)),
        path_length=draw(st.integers(3, 6)),
        branching=draw(st.integers(1, 3)),
        graph_seed=draw(st.integers(0, 2**64 - 1)),
        directions=draw(st.sampled_from(["both", "forward", "backward"])),
        self_edges=draw(st.booleans()),
        target=draw(st.sampled_from(["full", "hardest", "reverse"])),
        n_pauses=draw(st.integers(0 if tags else 1, 3)),
        tags=tags,
        stage=draw(st.sampled_from(["mixed", "edges", "paths"])),
        held_out=draw(st.sampled_from([0.5, 0.6])),
        hold_out=draw(st.sampled_from(["leaf", "first_hop"])),
    )


def read(task, inputs, targets):
    """A sequence as ("edge", source, target) or ("path", leaf, answers), checking every token on the way."""
    config, n = task.config, task.graph.n_nodes
    pause, pad, edge, path = range(n, n + 4)
    tokens = inputs.tolist()
    scored = np.flatnonzero(targets != IGNORE).tolist()
    answers = targets[scored].tolist()
    tag = tokens.pop(0) if config.tags else None
    n_tags = int(config.tags)
    if pad in tokens or (len(tokens) == 1 and tag != path):
        assert tag in (edge, None)
        assert scored == [n_tags]
        assert set(tokens[1:]) <= {pad}
        return "edge", tokens[0], answers[0]
    assert tag in (path, None)
    assert tokens[1 : 1 + config.n_pauses] == [pause] * config.n_pauses
    assert tokens[1 + config.n_pauses :] == answers[:-1]
    assert scored == list(range(n_tags + config.n_pauses, task.length))
    return "path", tokens[0], tuple(answers)


def sequences(task, batch):
    return [read(task, *row) for row in zip(batch.inputs, batch.targets, strict=True)]


def slow_pairs(task):
    config, pairs = task.config, []
    for parent, child in task.edges.tolist():
        pairs += [(parent, child)] * (config.directions != "backward")
        pairs += [(child, parent)] * (config.directions != "forward")
    return pairs + [(node, node) for node in range(task.graph.n_nodes) if config.self_edges]


def slow_paths(task, split):
    """From a search in the graph between the root and every leaf that the split owns."""
    graph = nx.from_edgelist(task.edges.tolist())
    (root,) = set(task.edges[:, 0].tolist()) - set(task.edges[:, 1].tolist())
    for leaf in task.paths[split][:, -1].tolist():
        path = nx.shortest_path(graph, root, leaf)
        answers = {"full": path, "hardest": path[1:2], "reverse": path[::-1]}[task.config.target]
        yield ("path", leaf, tuple(answers))


@settings(max_examples=80)
@given(config=configs(), split=st.sampled_from(SPLITS), seed=st.integers(0, 2**32))
def test_a_batch_of_all_sequences_holds_each_once(config, split, seed):
    task = PathStar(config)
    expected = Counter()
    if config.stage == "edges" or (config.stage == "mixed" and split == "train"):
        expected += Counter(("edge", *pair) for pair in slow_pairs(task))
    if config.stage != "edges":
        expected += Counter(slow_paths(task, split))
    n = expected.total()
    assert task.n_sequences(split) == (None if split == "train" else n)
    batch = task.batch(task_rng(seed, split, 0), n, split)
    # Without tags, an edge and a path of one answer and no pause would read alike; such configs are refused.
    assert Counter(sequences(task, batch)) == expected


@settings(max_examples=60)
@given(config=configs())
def test_the_graph_and_its_splits(config):
    task = PathStar(config)
    graph = nx.from_edgelist(task.edges.tolist())
    assert nx.is_tree(graph)
    assert sorted(graph) == task.node_tokens.tolist() == list(range(config.n_nodes))
    (root,) = set(task.edges[:, 0].tolist()) - set(task.edges[:, 1].tolist())
    leaves = {node for node in graph if graph.degree(node) == 1}
    owned = [set(task.paths[split][:, -1].tolist()) for split in SPLITS]
    assert all(owned)
    assert sum(map(len, owned)) == len(leaves) == config.n_leaves
    assert set().union(*owned) == leaves
    assert graph.degree(root) == config.n_arms
    first_hops = [set(task.paths[split][:, 1].tolist()) for split in SPLITS]
    if config.hold_out == "first_hop" or config.branching == 1:
        assert sum(map(len, first_hops)) == config.n_arms
    units = config.n_arms if config.hold_out == "first_hop" else config.n_leaves
    n_held = sum(map(len, owned[1:])) / (config.n_leaves / units)
    assert n_held == round(config.held_out * units)
    assert abs(len(owned[1]) - len(owned[2])) <= config.n_leaves / units


def slow_distance(task, kind, position, query, target):
    """0 unless the tree leaves open what follows the present token; then the way to the leaf."""
    config = task.config
    if kind == "edge" or target == int(task.paths["train"][0, 0]):
        return 0
    if config.target == "full" and query > 1 and config.branching == 1:
        return 0
    if config.target == "reverse" and query > 0:
        return 0
    return position - int(config.tags)


@settings(max_examples=60)
@given(config=configs())
def test_about(config):
    task = PathStar(config)
    for batch in (task.edge_batch(), task.path_batch("test")):
        assert set(batch.about) == {"distance", "query"}
        assert all((values[batch.targets == IGNORE] == -1).all() for values in batch.about.values())
        for row, (kind, _, _) in enumerate(sequences(task, batch)):
            for query, position in enumerate(np.flatnonzero(batch.targets[row] != IGNORE).tolist()):
                assert batch.about["query"][row, position] == query
                expected = slow_distance(task, kind, position, query, batch.targets[row, position])
                assert batch.about["distance"][row, position] == expected


def entropy_given(batch, key):
    """Nats per target of the best predictor that is told key(row, position), by counting."""
    counts = defaultdict(Counter)
    for row, position in np.argwhere(batch.targets != IGNORE).tolist():
        counts[key(batch.inputs[row], position)][int(batch.targets[row, position])] += 1
    nats = sum(-n * math.log(n / of_key.total()) for of_key in counts.values() for n in of_key.values())
    return nats / sum(of_key.total() for of_key in counts.values())


@settings(max_examples=60)
@given(config=configs())
def test_losses_are_those_of_counting_predictors(config):
    task = PathStar(config)
    n = sum(map(len, task._examples("train")))
    batch = task.batch(task_rng(0, "train", 0), n, "train")
    assert task.memoryless_loss == pytest.approx(entropy_given(batch, lambda row, at: int(row[at])), abs=1e-9)
    assert task.floor_loss == pytest.approx(entropy_given(batch, lambda row, at: tuple(row[: at + 1])), abs=1e-9)
    assert task.chance_loss == math.log(config.n_nodes)


def test_held_out_paths_leave_nothing_open():
    task = PathStar(PathStarConfig(n_arms=16))
    assert entropy_given(task.path_batch("test"), lambda row, at: tuple(row[: at + 1])) == 0


def test_losses_in_closed_form():
    d, length = 200, 5
    n_pairs, n_targets = 2 * d * (length - 1), length * 150
    open_nats = d * math.log(d) + 2 * d * (length - 2) * math.log(2)
    assert PathStar(PathStarConfig()).floor_loss == pytest.approx(open_nats / (n_pairs + n_targets))
    edges, paths = map(PathStar, stages(PathStarConfig()))
    assert edges.floor_loss == edges.memoryless_loss == pytest.approx(open_nats / n_pairs)
    assert paths.floor_loss == 0
    assert paths.memoryless_loss == pytest.approx(math.log(150) / length)
    # At the root, edges and paths ask for v1: trained arms twice. At v1 ... v3, a child in half of the edges and in
    # every path of a trained arm, the parent in the other half.
    at_root = 150 * 2 * math.log(350 / 2) + 50 * math.log(350)
    inner = 3 * (150 * (2 * math.log(3 / 2) + math.log(3)) + 50 * 2 * math.log(2))
    expected = (at_root + inner) / (n_pairs + n_targets)
    assert PathStar(PathStarConfig()).memoryless_loss == pytest.approx(expected)


def test_stages_share_the_graph_and_the_format():
    mixed = PathStar(PathStarConfig(n_arms=20, graph_seed=3, target="reverse"))
    edges, paths = map(PathStar, stages(mixed.config))
    for stage in (edges, paths):
        assert np.array_equal(stage.edges, mixed.edges)
        assert all(np.array_equal(stage.paths[split], mixed.paths[split]) for split in SPLITS)
        assert (stage.length, stage.vocab_size, stage.manifest()) == (mixed.length, mixed.vocab_size, mixed.manifest())
    kinds = {kind for kind, *_ in sequences(edges, edges.batch(task_rng(0, "train", 0), 400, "train"))}
    assert kinds == {"edge"}
    kinds = {kind for kind, *_ in sequences(paths, paths.batch(task_rng(0, "train", 0), 400, "train"))}
    assert kinds == {"path"}


def test_the_graph_seed_alone_decides_the_graph():
    config = PathStarConfig(n_arms=20)
    assert PathStar(config).manifest() == PathStar(replace(config, n_pauses=4)).manifest()
    assert PathStar(config).manifest() != PathStar(replace(config, graph_seed=1)).manifest()
    assert np.array_equal(PathStar(config).pairs, training_pairs(PathStar(config).graph, "both", False))


def test_the_drawing_of_the_docstring():
    task = PathStar(PathStarConfig(n_arms=8, path_length=3))
    paths = {split: task.paths[split].tolist() for split in SPLITS}
    assert paths["train"] == [[6, 13, 0], [6, 8, 16], [6, 14, 7], [6, 15, 3], [6, 12, 5], [6, 9, 11]]
    assert paths["validation"] == [[6, 2, 4]]
    assert paths["test"] == [[6, 1, 10]]
    path, edge = task.path_batch("train"), task.edge_batch()
    assert task.words(path.inputs[4].tolist()) == ["PATH", "5", "PAUSE", "6", "12"]
    assert path.targets[4].tolist() == [IGNORE, IGNORE, 6, 12, 5]
    (row,) = np.flatnonzero((edge.inputs[:, 1] == 12) & (edge.targets[:, 1] == 6))
    assert task.words(edge.inputs[row].tolist()) == ["EDGE", "12", ".", ".", "."]


def test_the_batch_of_the_first_release():
    task = PathStar(PathStarConfig(n_arms=8, path_length=3))
    batch = task.batch(task_rng(0, "train", 0), 2, "train")
    assert batch.inputs.tolist() == [[20, 5, 17, 6, 12], [19, 6, 18, 18, 18]]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_more_than_the_held_out_paths_are_refused(split):
    task = PathStar(PathStarConfig(n_arms=20, held_out=0.3))
    with pytest.raises(ValueError, match=f"at most 3, the sequences of the {split} split, got 4; nearest valid: 3"):
        task.batch(task_rng(0, split, 0), 4, split)
    with pytest.raises(ValueError, match="got 'tst'; nearest valid: 'test'"):
        task.path_batch("tst")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"n_arms": 2}, "n_arms: must be at least 3, got 2; nearest valid: 3"),
        ({"n_arms": 10**7}, "n_arms: must be at most 4999999, .* got 10000000; nearest valid: 4999999"),
        ({"path_length": 2}, "path_length: must be at least 3, got 2; nearest valid: 3"),
        ({"branching": 0}, "branching: must be at least 1, got 0; nearest valid: 1"),
        ({"branching": 2, "path_length": 10**9}, "path_length: must be at most 16, .* nearest valid: 16"),
        ({"graph_seed": -1}, r"graph_seed: must be at least 0 and below 2\*\*64, got -1; nearest valid: 0"),
        (
            {"graph_seed": 2**64},
            "graph_seed: must be .* nearest valid: 18446744073709551615",
        ),
        ({"n_pauses": -1}, "n_pauses: must be at least 0, got -1; nearest valid: 0"),
        ({"n_pauses": 0, "tags": False}, "n_pauses: must be at least 1 without tags.* got 0; nearest valid: 1"),
        ({"target": "back"}, "target: must be one of full, hardest, reverse, got 'back'; nearest valid: 'full'"),
        ({"stage": "late"}, "stage: must be one of mixed, edges, paths, got 'late'"),
        ({"directions": "up"}, "directions: must be one of both, forward, backward, got 'up'"),
        ({"hold_out": "root"}, "hold_out: must be one of leaf, first_hop, got 'root'"),
        ({"held_out": 0.001}, "held_out: must be between 0.01 and 0.995: of 200 leaves, .* got 0.001; .*: 0.01$"),
        ({"held_out": 1.0}, "held_out: .* got 1.0; nearest valid: 0.995"),
        ({"held_out": math.nan}, "held_out: .* got nan; nearest valid: 0.01"),
        ({"n_arms": 4, "branching": 2, "hold_out": "first_hop"}, "held_out: must be .* of 4 subtrees, .* 0.25"),
    ],
)
def test_config_refuses(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        PathStarConfig(**options)


@pytest.mark.parametrize("held_out", [2, 9])
@pytest.mark.parametrize("n_arms", [10, 11, 300])
def test_the_advice_on_held_out_is_valid(n_arms, held_out):
    for wrong in (0.0, 1.0):
        with pytest.raises(ValueError, match="held_out") as caught:
            PathStarConfig(n_arms=n_arms, held_out=wrong)
        PathStarConfig(n_arms=n_arms, held_out=float(str(caught.value).rsplit(" ", 1)[-1]))
    if held_out < n_arms:
        assert len(PathStar(PathStarConfig(n_arms=n_arms, held_out=held_out / n_arms)).paths["test"]) == -(
            -held_out // 2
        )
