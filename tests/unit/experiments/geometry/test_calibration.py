from dataclasses import replace

import pytest

from mnemoscope.experiments.geometry.calibration import (
    GEOMETRY_CALIBRATION,
    CalibrationStudy,
    Case,
    geometry_calibration,
    noise_case,
    trained_case,
)
from mnemoscope.experiments.geometry.memorising import EdgeTraining
from mnemoscope.experiments.geometry.tiny_models import ARMS, GRAPHS, RELEASED, Arm, TinyModels
from mnemoscope.runs.geometry import GeometryVerdict
from mnemoscope.tasks.graphs import GraphName

TWO = EdgeTraining(width=4, steps=2)
TWO_STEPS = CalibrationStudy(
    models=TinyModels(
        network=dict.fromkeys(GRAPHS, TWO),
        frozen=dict.fromkeys(GRAPHS, TWO),
        fast=TWO,
        transformer=dict.fromkeys(GRAPHS, TWO),
        node2vec_width=4,
        node2vec_steps=2,
    ),
    n_shuffles=10,
)
SHORT = CalibrationStudy(
    models=replace(RELEASED, network=dict.fromkeys(GRAPHS, EdgeTraining(steps=300)), node2vec_steps=2000),
    n_shuffles=200,
)


def test_every_claim_is_measured():
    measured = geometry_calibration(TWO_STEPS, 0)
    assert {claim.figure for claim in GEOMETRY_CALIBRATION.claims} == measured.figures.keys()
    assert measured.figures["tables"] == 4 * (len(ARMS) + 3) >= 40
    assert {len(values) for values in measured.series.values()} == {int(measured.figures["tables"])}


@pytest.mark.parametrize("graph", GRAPHS)
def test_what_the_verdict_says_of_tables_whose_truth_is_known(graph: GraphName):
    cases = [trained_case(arm, graph, SHORT, seed=0) for arm in ARMS[:4] + ARMS[-2:]]
    cases.append(noise_case(32, graph, SHORT, seed=0))
    assert [case.name for case in cases if case.is_false] == []
    assert min(case.strongest for case in cases if case.is_trained) > 3.5
    assert max(case.strongest for case in cases if not case.is_trained) < 3.5
    assert all(case.found.verdict.kind != "not memorised" for case in cases)


def test_edges_asked_one_way_are_not_held_against_a_table():
    case = trained_case(Arm("TinyNN", directions="forward"), "grid", SHORT, seed=0)
    assert case.is_trained
    assert case.found.verdict.kind != "not memorised"
    assert "edge_recall" not in {metric.name for metric in case.found.metrics}
    assert case.found.step == 300


@pytest.mark.parametrize(
    ("is_trained", "kind", "is_false"),
    [
        (True, "associative", True),
        (True, "mixed", False),
        (True, "geometric", False),
        (False, "geometric", True),
        (False, "mixed", False),
        (False, "associative", False),
    ],
)
def test_what_is_a_false_verdict(is_trained: bool, kind: str, is_false: bool):
    found = noise_case(4, "cycle", TWO_STEPS, seed=0).found
    verdict = GeometryVerdict.model_validate({"kind": kind, "reasons": []})
    assert Case("one", is_trained, found.model_copy(update={"verdict": verdict})).is_false is is_false


def test_noise_is_drawn_anew_for_every_graph_and_width():
    tables = [
        noise_case(width, graph, TWO_STEPS, seed).strongest
        for width in (4, 8)
        for graph in ("cycle", "grid")
        for seed in (0, 1)
    ]
    assert len(set(tables)) == 8
