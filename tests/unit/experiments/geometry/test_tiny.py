import math
from collections.abc import Mapping
from dataclasses import asdict, replace

import numpy as np
import pytest

from mnemoscope.experiments.geometry.measuring import (
    KINDS,
    TRACKED,
    graph_of,
    kind_of,
    metrics_of,
    shuffled,
    strongest,
    values_of,
)
from mnemoscope.experiments.geometry.memorising import EdgeTraining, Memorised, memorise_network
from mnemoscope.experiments.geometry.tiny import TINY_GRAPHS, TinyStudy, figures, followed, tiny_graphs
from mnemoscope.experiments.geometry.tiny_models import ARMS, GRAPHS, PUBLISHED, RELEASED, Arm, TinyModels, memorised
from mnemoscope.runs.geometry import GeometryMetric
from mnemoscope.tasks.graphs import GraphName
from mnemoscope.tasks.tiny_graphs import TinyGraphs, TinyGraphsConfig

TWO = EdgeTraining(width=4, steps=2)
TWO_STEPS = TinyModels(
    network=dict.fromkeys(GRAPHS, TWO),
    frozen=dict.fromkeys(GRAPHS, TWO),
    fast=TWO,
    transformer=dict.fromkeys(GRAPHS, TWO),
    node2vec_width=4,
    node2vec_steps=2,
)


def a_metric(name: str, value: float, z: float | None = None) -> GeometryMetric:
    return GeometryMetric(name=name, value=value, null_mean=0.0, null_sd=1.0, z=z)


def test_every_claim_is_measured():
    study = TinyStudy(models=TWO_STEPS, n_shuffles=3, n_shuffles_meanwhile=2)
    measured = tiny_graphs(study, 0)
    assert {claim.figure for claim in TINY_GRAPHS.claims} <= measured.figures.keys()
    assert measured.series["TinyGPT +self grid: step"] == [0, 1, 2]
    assert len(measured.series["Node2Vec cycle: smooth_share"]) == 3
    assert len(measured.series) == len(ARMS) * len(GRAPHS) * (5 + len(TRACKED))


def test_names_of_arms():
    assert [arm.name for arm in ARMS[4:7]] == ["TinyGPT", "TinyGPT +self", "TinyGPT forward"]
    assert len({arm.name for arm in ARMS}) == len(ARMS)
    assert [arm.name for arm in ARMS if arm.is_frozen] == ["frozen", "frozen fast"]


@pytest.mark.parametrize("arm", ARMS, ids=lambda arm: arm.name)
def test_every_model_starts_and_learns(arm: Arm):
    """Two steps change the table unless it is frozen, seeds decide everything, and recorded steps are those due."""
    found, again = (memorised(arm, "irregular", TWO_STEPS, seed=3) for _ in range(2))
    assert [look.step for look in found.looks] == [0, 1, 2]
    np.testing.assert_array_equal(found.end.table, again.end.table)
    moved = not np.array_equal(found.looks[0].table, found.end.table)
    assert moved is not arm.is_frozen
    assert not np.array_equal(found.end.table, memorised(arm, "irregular", TWO_STEPS, seed=4).end.table)
    assert found.task.config == TinyGraphsConfig(
        graph="irregular", self_edges=arm.self_edges, directions=arm.directions
    )


def test_node2vec_is_recorded_as_one_training():
    """Looks of the two records belong to one trajectory: steps rise, and so do scores of edges."""
    found = memorised(Arm("Node2Vec"), "grid", replace(TWO_STEPS, node2vec_steps=120, node2vec_width=50), seed=0)
    assert [look.step for look in found.looks] == [0, 1, 2, 5, 10, 20, 50, 100, 120]
    np.testing.assert_allclose(found.end.scores, found.end.table @ found.end.table.T)
    losses = [look.loss for look in found.looks]
    assert losses == sorted(losses, reverse=True)


def test_where_the_residual_stream_is():
    bare, whole = (memorised(Arm(name), "cycle", TWO_STEPS, 0) for name in ("TinySSM bare", "TinySSM"))
    np.testing.assert_array_equal(bare.looks[0].table, whole.looks[0].table)
    assert not np.allclose(bare.looks[0].scores, whole.looks[0].scores)


def test_the_settings_of_the_notebooks():
    """Table 3.2 of the notebooks, by hand."""
    network = {graph: (one.width, one.learning_rate, one.steps) for graph, one in RELEASED.network.items()}
    assert network == {
        "path_star": (32, 0.01, 500),
        "grid": (32, 0.01, 500),
        "cycle": (512, 0.01, 10_000),
        "irregular": (16, 0.005, 1000),
    }
    assert {one.steps for one in RELEASED.transformer.values()} == {500, 700, 2500}
    assert {(one.weight_decay, one.initial_std) for one in RELEASED.transformer.values()} == {(0.0, 0.02)}
    assert (RELEASED.fast.width, RELEASED.fast.learning_rate, RELEASED.fast.steps) == (512, 0.1, 10)
    assert {one.width for one in PUBLISHED.network.values()} == {512}
    assert asdict(TINY_GRAPHS.sizes["small"])["models"]["transformer"]["cycle"]["width"] == 32


def test_measures_of_a_table_that_is_the_graph():
    """Rows that are the two slowest waves of the cycle lie wholly in the top of its spectrum."""
    task = TinyGraphs(TinyGraphsConfig(graph="cycle"))
    angle = 2 * np.pi * np.arange(15) / 15
    look = memorise_network(task, EdgeTraining(steps=1), seed=0).end
    waves = replace(look, table=np.stack([np.cos(angle), np.sin(angle)], axis=1), recall=1.0)
    metrics = metrics_of(waves, graph_of(task), shuffled(task, 200, seed=0))
    values = values_of(metrics)
    assert values["smooth_share"] == pytest.approx(1)
    assert values["top_share"] == pytest.approx(1)
    assert values["bottom_share"] == pytest.approx(0, abs=1e-12)
    assert values["smoothness"] == pytest.approx(math.cos(2 * math.pi / 15))
    assert values["far_distance_correlation"] == pytest.approx(1)
    assert KINDS[kind_of(metrics)] == "geometric"
    assert strongest(metrics) > 3.5
    assert KINDS[kind_of(metrics | {"edge_recall": a_metric("edge_recall", 0.9)})] == "not memorised"


def test_the_stronger_score_counts():
    found = {"smoothness": a_metric("smoothness", 0, -1.0), "two_sided_smoothness": a_metric("x", 0, 6.0)}
    assert strongest(found) == 6.0
    assert strongest(found | {"two_sided_smoothness": a_metric("x", 0)}) == 0.0


def test_figures_count_what_moved():
    """Self-edges raise the smooth share of TinyGPT on one graph of two and cut the bottom share on the other."""
    graphs: tuple[GraphName, ...] = ("cycle", "grid")
    trained: dict[tuple[Arm, GraphName], Memorised] = {
        (arm, graph): memorised(arm, graph, TWO_STEPS, 0) for arm in ARMS for graph in graphs
    }
    shares: Mapping[tuple[bool, str], tuple[float, float]] = {
        (False, "cycle"): (0.5, 0.3),
        (True, "cycle"): (0.6, 0.3),
        (False, "grid"): (0.5, 0.3),
        (True, "grid"): (0.5, 0.2),
    }
    ends = {}
    for arm, graph in trained:
        smooth, bottom = shares[arm.self_edges, graph]
        far, z = (0.0, 0.0) if arm.is_frozen else (0.6, 5.0)
        made = [
            a_metric("smooth_share", smooth),
            a_metric("bottom_share", bottom),
            a_metric("smoothness", 0.0, z),
            a_metric("two_sided_smoothness", 0.0, z),
            a_metric("far_distance_correlation", far, z),
            a_metric("edge_recall", 1.0),
        ]
        ends[arm, graph] = {metric.name: metric for metric in made}
    found = figures(ends, trained, graphs)
    assert (found["TinyGPT smooth_share moved"], found["TinyGPT bottom_share moved"]) == (1, 1)
    assert (found["TinyGPT cycle smooth_share +self"], found["TinyGPT grid bottom_share"]) == (0.6, 0.3)
    assert (found["trained associative"], found["trained geometric"]) == (0, 1)
    assert (found["frozen associative"], found["frozen geometric"]) == (1, 0)
    assert found["above floor"] > 0.5
    assert found["least recall"] < 0.99


def test_a_training_is_followed():
    found = memorise_network(TinyGraphs(TinyGraphsConfig(graph="grid")), EdgeTraining(steps=100), seed=0)
    track, end = followed(found, TinyStudy(models=TWO_STEPS, n_shuffles=100, n_shuffles_meanwhile=20), seed=0)
    assert track["step"] == [0, 1, 2, 5, 10, 20, 50, 100]
    assert track["kind"][0] == 0
    assert track["kind"][-1] == kind_of(end) >= 2
    assert track["smooth_share"][-1] == end["smooth_share"].value
    assert {len(values) for values in track.values()} == {8}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("graph", GRAPHS)
def test_self_edges_make_a_network_smooth(graph: GraphName, seed: int):
    """At a size that takes a tenth of a second."""
    models = replace(TWO_STEPS, network=dict.fromkeys(GRAPHS, EdgeTraining(steps=300)))
    values = []
    for self_edges in (False, True):
        found = memorised(Arm("TinyNN", self_edges=self_edges), graph, models, seed)
        assert found.end.recall == 1.0
        metrics = metrics_of(found.end, graph_of(found.task), shuffled(found.task, 100, seed))
        values.append(values_of(metrics))
        assert strongest(metrics) > 3
    assert values[1]["smooth_share"] > values[0]["smooth_share"] + 0.1
    assert values[1]["bottom_share"] < values[0]["bottom_share"] - 0.1
