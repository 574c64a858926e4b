"""Probes: what they find in a map, and that they find nothing in noise or in what is merely known by heart."""

import numpy as np

from mnemoscope.examination.geometry import probe
from mnemoscope.examination.geometry.graph import as_graph
from mnemoscope.examination.geometry.probe import probe_metrics
from mnemoscope.examination.geometry.references import laplacian_eigenmap
from mnemoscope.tasks.graphs import cycle_edges, star_paths, tree_edges

PATHS = star_paths(30, 5)
STAR = as_graph(tree_edges(PATHS))
ARMS = np.full(STAR.n_nodes, -1)
ARMS[PATHS[:, 1:]] = np.arange(30)[:, None]


def metrics(table: np.ndarray, graph=STAR, groups=None) -> dict:
    return {metric.name: metric for metric in probe_metrics(table, graph, groups)}


def test_a_map_says_how_far_and_of_which_arm():
    found = metrics(laplacian_eigenmap(STAR, 60), groups=ARMS)
    group, hops = found["group_probe_selectivity"], found["hop_probe_selectivity"]
    assert group.value > 0.35
    assert group.z is not None
    assert group.z > 5
    assert hops.value > 0.3
    assert hops.z is not None
    assert hops.z > 5


def test_random_tables_have_no_selectivity():
    for seed in range(3):
        found = metrics(np.random.default_rng(seed).standard_normal((STAR.n_nodes, 20)), groups=ARMS)
        assert max(abs(metric.z) for metric in found.values()) < 4
        assert max(abs(metric.value) for metric in found.values()) < 0.15


def test_what_is_known_of_the_training_arms_alone_does_not_count():
    # The arms that the probe is fitted on are clusters; those that it is judged on are noise.
    rng = np.random.default_rng(0)
    clusters, noise = rng.standard_normal((30, 20))[ARMS], rng.standard_normal((STAR.n_nodes, 20))
    fitted, _ = probe._halves(ARMS, np.random.default_rng(0))
    half = noise.copy()
    half[fitted] = clusters[fitted]
    everywhere, partly = (metrics(each, groups=ARMS)["group_probe_selectivity"] for each in (clusters, half))
    assert everywhere.value > 0.4
    assert abs(partly.value) < 0.15


def test_hops_of_a_cycle_without_groups():
    angle = 2 * np.pi * np.arange(60) / 60
    table = np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1)
    found = metrics(table, as_graph(cycle_edges(60)))
    assert found["hop_probe_selectivity"].value > 0.2
    assert found["hop_probe_selectivity"].n > 50
    assert found["group_probe_selectivity"].missing == "no groups were given"


def test_components_are_not_split():
    edges = np.concatenate([cycle_edges(6) + 6 * i for i in range(6)])
    found = metrics(np.random.default_rng(0).standard_normal((36, 4)), as_graph(edges))
    # Three whole cycles: 6, 6 and 3 pairs at 1, 2 and 3 hops each.
    assert found["hop_probe_selectivity"].n == 3 * 15


def test_halves_with_nothing_in_common_are_missing():
    graph = as_graph([[0, 1], [1, 2]])
    found = metrics(np.eye(3), graph, np.array([0, 0, 0]))
    assert "fewer than two classes" in found["hop_probe_selectivity"].missing
    assert "fewer than two classes" in found["group_probe_selectivity"].missing
    assert metrics(np.ones((STAR.n_nodes, 2)), groups=ARMS)["group_probe_selectivity"].value <= 0.1
