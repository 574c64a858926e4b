import math

import pytest

from mnemoscope.examination.geometry.verdict import Behaviour, judge
from mnemoscope.runs.geometry import GeometryMetric


def metrics(
    one: float = 0.0,
    two: float = 0.0,
    far: float = 0.0,
    far_z: float = 0.0,
    auc: float | None = None,
    recall: float | None = 1.0,
    zigzag: tuple[float, float] = (0.0, 0.0),
) -> list[GeometryMetric]:
    """Measures with these z-scores and values."""
    made = [
        measured("smoothness", 0.1 * one, one),
        measured("two_sided_smoothness", 0.5, two),
        measured("far_distance_correlation", far, far_z),
        measured("zigzag", *zigzag),
    ]
    made += [] if auc is None else [measured("first_hop_auc", auc, 9.0)]
    return made + ([] if recall is None else [GeometryMetric(name="edge_recall", value=recall)])


def measured(name: str, value: float, z: float) -> GeometryMetric:
    return GeometryMetric(name=name, value=value, null_mean=0.0, null_sd=1.0, z=z, p=0.5, n=10)


def kind_and_form(*args: object, **options: object) -> tuple[str, str]:
    verdict = judge(metrics(**options))  # pyright: ignore[reportArgumentType]
    return verdict.kind, verdict.form


def test_every_row_of_the_rule():
    assert kind_and_form() == ("associative", "")
    assert kind_and_form(one=3.5, far=0.5, far_z=5.0) == ("geometric", "smooth")
    assert kind_and_form(two=3.5, auc=0.95) == ("geometric", "zigzag")
    assert kind_and_form(one=91.0, far=0.9, zigzag=(0.2, 8.0)) == ("geometric", "smooth with zigzag")
    assert kind_and_form(one=6.0, far=-0.1) == ("mixed", "directed")
    assert kind_and_form(one=6.0, far=-0.1, auc=1.0) == ("geometric", "smooth")
    assert kind_and_form(one=6.0, far=0.3) == ("mixed", "smooth")
    assert kind_and_form(one=3.2) == ("mixed", "")
    assert kind_and_form(far=0.2, far_z=4.0) == ("mixed", "")
    assert kind_and_form(one=9.0, far=0.9, recall=0.98) == ("not memorised", "")


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"one": 2.999}, "associative"),
        ({"one": 3.0}, "mixed"),
        ({"one": 3.499, "far": 0.9}, "mixed"),
        ({"one": 3.5, "far": 0.499}, "mixed"),
        ({"one": 3.5, "far": 0.4, "auc": 0.949}, "mixed"),
        ({"far_z": -3.0}, "mixed"),
        ({"one": -9.0}, "associative"),
        ({"one": 9.0, "far": 0.9, "recall": 0.99}, "geometric"),
    ],
)
def test_its_thresholds(options: dict[str, float], kind: str):
    assert kind_and_form(**options)[0] == kind


def test_a_small_cosine_at_two_hops_is_no_zigzag_unless_it_is_beyond_shuffles():
    assert kind_and_form(one=9.0, far=0.9, zigzag=(0.2, 2.9))[1] == "smooth"
    assert kind_and_form(one=9.0, far=0.9, zigzag=(0.05, 9.0))[1] == "smooth"


def test_a_geometry_that_is_not_used_is_not_called_one():
    told = metrics(one=9.0, far=0.9)
    assert judge(told, Behaviour(n_arms=200, first_hop=0.05)).kind == "geometric"
    assert judge(told, Behaviour(n_arms=200, first_hop=0.049)).kind == "mixed"
    assert judge(told, Behaviour(n_arms=200, first_hop=1.0, frozen_first_hop=0.02)).kind == "mixed"
    assert judge(told, Behaviour(n_arms=200, first_hop=1.0, frozen_first_hop=0.01)).kind == "geometric"


def test_what_is_not_known_is_said():
    assert any("memorised" in caveat for caveat in judge(metrics(recall=None)).caveats)
    assert any("held-out" in caveat for caveat in judge(metrics()).caveats)
    unsure = judge(metrics(), Behaviour(n_arms=20, first_hop=1.0)).caveats
    assert len(unsure) == 1
    assert "frozen" in unsure[0]


def test_a_correlation_that_could_not_be_taken_is_named_and_decides_nothing():
    gone = GeometryMetric(name="far_distance_correlation", value=math.nan, missing="no node is two edges from another")
    told = [metric for metric in metrics() if metric.name != gone.name]
    assert judge([*told, gone]).kind == "associative"
    assert any("no node is two edges" in reason for reason in judge([*told, gone]).reasons)


def test_impossible_behaviour_is_refused():
    with pytest.raises(ValueError, match=r"Behaviour\.first_hop: must be an accuracy"):
        Behaviour(n_arms=4, first_hop=1.2)
    with pytest.raises(ValueError, match=r"Behaviour\.n_arms: must be at least 2"):
        Behaviour(n_arms=1, first_hop=1.0)
