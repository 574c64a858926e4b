"""What is answered of a claim, by the figures of its study."""

from collections.abc import Mapping
from typing import Any

import pytest

from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Result
from mnemoscope.experiments.survey.frame import Finding, Study, practice, study, verdict
from mnemoscope.runs.reproduction import TextTable

CLAIMS = (
    Claim(figure="control", what="control", least=0.9),
    Claim(figure="near", what="near", least=0.5),
    Claim(figure="far", what="far", least=0.5, in_seeds=2 / 3),
    Claim(figure="shown", what="shown"),
)
FINDING = Finding(
    slug="near-and-far",
    claim="It recalls.",
    source="somebody 2020",
    decided_by={"near": "near by", "far": "far away"},
    requires=("control",),
    if_holds="Use it.",
    if_not="Do not.",
    elsewhere="Try more.",
)


def nothing(settings: Any, seed: int) -> Measured:
    return Measured(figures={})


def own_table(settings: Any, found: Any) -> list[TextTable]:
    return [TextTable(title="own", caption="", columns=["a"], rows=[["1"]])]


def small_study() -> Study:
    experiment = Experiment(
        name="toy", what="does it?", source="s", claims=CLAIMS, sizes={"small": None}, measure=nothing, tables=own_table
    )
    return study(experiment, FINDING)


def results(*figures: Mapping[str, float]) -> list[Result]:
    return [
        Result(
            experiment="toy",
            size="small",
            seed=seed,
            settings={},
            figures={"control": 1.0, "near": 1.0, "far": 1.0, "shown": 0.0} | dict(each),
            series={},
            seconds=1.0,
            versions={},
        )
        for seed, each in enumerate(figures)
    ]


@pytest.mark.parametrize(
    ("figures", "answer"),
    [
        ([], "not measured yet"),
        ([{}], "holds"),
        ([{}, {"near": 0.1}], "holds only when: far away"),
        ([{"near": 0.1, "far": 0.1}], "does not hold"),
        ([{}, {}, {"far": 0.1}], "holds"),
        ([{}, {"far": 0.1}, {"far": 0.1}], "holds only when: near by"),
        ([{"control": 0.8}], "not testable at this size"),
        ([{"near": float("nan"), "far": float("nan")}], "does not hold"),
        ([{"control": 0.1}, {}, {}], "holds"),
        ([{"control": 0.1, "near": 0.1}, {"far": 0.1}, {"far": 0.1}], "holds only when: near by"),
        ([{"control": 0.1}, {"control": 0.1}, {}], "not testable at this size"),
        ([{"control": 0.1}, {}], "not testable at this size"),
        ([{"near": 0.1, "far": 0.1}, {"near": 0.1, "far": 0.1}, {}], "does not hold"),
        ([{"near": 0.1, "far": 0.1}, {}], "undecided"),
        ([{"near": 0.1, "far": 0.1}, {"near": 0.1}, {"far": 0.1}], "does not hold"),
        ([{"near": 0.1, "far": 0.1}, {"far": 0.1}, {}], "undecided"),
        ([{"control": 0.1}, {"near": 0.1, "far": 0.1}, {"near": 0.1, "far": 0.1}], "does not hold"),
    ],
)
def test_the_answer(figures: list[dict[str, float]], answer: str):
    assert str(verdict(FINDING, CLAIMS, results(*figures))) == answer


def test_an_answer_says_on_which_seeds_it_rests():
    said = verdict(FINDING, CLAIMS, results({"control": 0.1, "near": 0.1}, {}, {"far": 0.1}))
    assert (said.able, dict(said.within)) == (2, {"near": 2, "far": 1})


def test_what_to_do_follows_the_answer():
    found = {str(said): practice(FINDING, said) for said in (verdict(FINDING, CLAIMS, r) for r in CASES)}
    assert found == {
        "holds": "Use it.",
        "does not hold": "Do not.",
        "holds only when: far away": "Under these conditions: Use it. Otherwise: Do not.",
        "not testable at this size": "Nothing can rest on this yet.",
        "undecided": "Seeds contradict each other: run more of them, and examine your own network before you act on "
        "it.",
    }


CASES = [
    *(results(each) for each in ({}, {"near": 0.0, "far": 0.0}, {"near": 0.0}, {"control": 0.0})),
    results({"near": 0.0, "far": 0.0}, {}),
]


def test_the_page_of_the_experiment_gets_the_findings_before_its_own_tables():
    experiment = small_study().experiment
    summary, own = experiment.tables(None, results({}))
    assert summary.rows == [["It recalls.", "somebody 2020", "holds", "Use it."]]
    assert own.title == "own"


@pytest.mark.parametrize("figure", ["shown", "absent"])
def test_a_finding_rests_on_figures_with_a_bar(figure: str):
    experiment = Experiment(name="toy", what="?", source="s", claims=CLAIMS, sizes={"small": None}, measure=nothing)
    bad = Finding(slug="x", claim="c", source="s", decided_by={figure: "w"}, if_holds="a", if_not="b", elsewhere="c")
    with pytest.raises(ValueError, match=rf"'{figure}' must be a claim of toy with a bar; those are control"):
        study(experiment, bad)


def test_a_finding_is_decided_by_something():
    with pytest.raises(ValueError, match="Finding x: decided_by must name a figure at least"):
        Finding(slug="x", claim="c", source="s", decided_by={}, if_holds="a", if_not="b", elsewhere="c")
