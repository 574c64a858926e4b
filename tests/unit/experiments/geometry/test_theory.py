from dataclasses import replace

import numpy as np
import pytest

from mnemoscope.examination.geometry.node2vec import Node2VecConfig, node2vec
from mnemoscope.experiments.geometry.memorising import EdgeTraining
from mnemoscope.experiments.geometry.theory import (
    NODE2VEC_DYNAMICS,
    DynamicsStudy,
    eigenvector_residual,
    node2vec_dynamics,
    of_cycle,
    of_others,
    slowest,
    soonness,
)
from mnemoscope.tasks.graphs import GraphName, named_graph
from mnemoscope.tasks.tiny_graphs import TinyGraphs, TinyGraphsConfig

SMALL = NODE2VEC_DYNAMICS.sizes["small"]


def test_the_stationary_state_on_the_cycle():
    """To the digits of the closed form, which the claims print."""
    config = Node2VecConfig(width=100, steps=10_000, step_size=0.01, seed=0)
    figures = of_cycle(node2vec(named_graph("cycle").edges, config, record_every=5000))
    cycle = [claim for claim in NODE2VEC_DYNAMICS.claims if claim.figure in figures]
    assert [claim.figure for claim in cycle if not claim.holds(figures[claim.figure])] == []
    assert len(cycle) == 7


@pytest.mark.parametrize(("graph", "slow"), [("path_star", 0.157), ("grid", 0.062), ("irregular", 0.11)])
def test_off_the_cycle_the_slowest_directions_nearly_stand(graph: GraphName, slow: float):
    config = Node2VecConfig(width=100, steps=10_000, step_size=0.01, seed=1)
    found = node2vec(named_graph(graph).edges, config, record_every=5000)
    figures = of_others(found, graph, n_components=2 if graph == "irregular" else 1)
    assert figures[f"{graph} slow"] == pytest.approx(slow, abs=5e-3)
    assert figures[f"{graph} low"] > 1


def test_the_slowest_directions_by_hand():
    assert slowest(np.array([2.0, 1.5, 1.5, 0.0]), 1).tolist() == [1, 2]
    assert slowest(np.array([2.1, 2.0, 1.5, 1.4]), 2).tolist() == [2]


def test_eigenvectors_that_are_shared_and_not():
    """On rows that turn evenly both matrices are circulant, and so share eigenvectors; on others they do not."""
    angle = 2 * np.pi * np.arange(7) / 7
    even = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    assert eigenvector_residual(even) < 1e-14
    table = np.array([[1.0], [0.0]])
    gram, weight = np.array([[1.0, 0.0], [0.0, 0.0]]), np.e / (1 + np.e)
    law = np.array([[weight, 1 - weight], [0.5, 0.5]])
    both = law + law.T
    expected = np.linalg.norm(gram @ both - both @ gram) / np.linalg.norm(both)
    assert eigenvector_residual(table) == pytest.approx(expected)
    assert expected > 0.1


def test_a_frozen_table_is_sooner():
    found = soonness(TinyGraphs(TinyGraphsConfig(graph="cycle")), replace(SMALL, n_shuffles=100), seed=0)
    assert found["cycle associative"] <= 2
    assert found["cycle geometric"] >= 20
    assert found["cycle associative z"] < 3.5 < found["cycle geometric z"]


def test_every_claim_is_measured():
    tiny = replace(SMALL, steps=2, every=1, network=EdgeTraining(width=4, steps=2), n_shuffles=10)
    measured = node2vec_dynamics(tiny, 0)
    assert {claim.figure for claim in NODE2VEC_DYNAMICS.claims} <= measured.figures.keys()
    assert measured.series["cycle: step"] == [0, 1, 2]
    assert len(measured.series["grid: projection 15"]) == 3
    assert measured == node2vec_dynamics(tiny, 0)
    assert measured != node2vec_dynamics(tiny, 1)


def test_what_is_refused():
    with pytest.raises(ValueError, match="the cycle must be among them, got grid"):
        DynamicsStudy(graphs=("grid",), network=EdgeTraining())
    with pytest.raises(ValueError, match="must divide steps = 10000, got 30"):
        replace(SMALL, every=30)
