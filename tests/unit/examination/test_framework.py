import math
from dataclasses import replace

import pytest

from mnemoscope.examination.judgement.framework import FRAMEWORK, advise, assess
from mnemoscope.examination.judgement.signs import FEWEST_POINTS, Evidence, Settings
from tests.unit.examination.commands import assert_runs
from tests.unit.reporting.samples import decorative, memory

N = 12


def log(**columns: list[float] | float) -> list[dict[str, float]]:
    """A log of N rows, 100 steps apart; a number stands for the same number in each."""
    values = {name: value if isinstance(value, list) else [value] * N for name, value in columns.items()}
    return [
        {"step": 100.0 * (i + 1)} | {name: value[i] for name, value in values.items() if i < len(value)}
        for i in range(N)
    ]


def rising(start: float, end: float) -> list[float]:
    return [start + (end - start) * i / (N - 1) for i in range(N)]


def numbers(evidence: Evidence) -> set[int]:
    return {int(row.source.split("row ")[1].split(";")[0]) for row in advise(evidence)}


def evidence(**columns: list[float] | float) -> Evidence:
    return Evidence(metrics=log(**columns))


DULL = {"memory_utility": 0.001, "memory_utility_error": 0.01}
USEFUL = {"memory_utility": 0.2, "memory_utility_error": 0.01}
SPARSE = [{"step": 1000.0, "embedding_dimension_ratio": 0.8, "validation_accuracy": 0.1}]

CASES = [
    (1, evidence(validation_accuracy=rising(0.1, 0.6)), evidence(validation_accuracy=0.6)),
    (
        2,
        evidence(validation_accuracy=0.11, head_dimension_ratio=0.05, embedding_dimension_ratio=0.7),
        evidence(validation_accuracy=0.11, head_dimension_ratio=0.5),
    ),
    (
        3,
        evidence(validation_accuracy=0.11, embedding_dimension_ratio=0.4, **DULL),
        evidence(validation_accuracy=0.11, embedding_dimension_ratio=0.4, **USEFUL),
    ),
    (
        4,
        evidence(validation_accuracy=0.4, memory_rank_share=0.9, **USEFUL),
        evidence(validation_accuracy=0.4, memory_rank_share=0.5, **USEFUL),
    ),
    (4, evidence(validation_accuracy=0.4, memory_rank_share=0.9, **USEFUL), evidence(validation_accuracy=1.0)),
    (5, evidence(raw_gate_mean=0.45), evidence(raw_gate_mean=0.25)),
    (6, evidence(raw_gate_mean=0.05), evidence(raw_gate_mean=0.15)),
    (7, evidence(raw_gate_mean=0.95), evidence(raw_gate_mean=0.85)),
    (
        8,
        evidence(validation_accuracy=0.3, raw_gate_mean=0.4, **DULL),
        evidence(validation_accuracy=0.3, raw_gate_mean=0.4, **USEFUL),
    ),
    (9, evidence(loss=rising(3, 1)), evidence(loss=2.0)),
    (10, evidence(loss=rising(1, 3)), evidence(loss=rising(3, 1))),
    (10, evidence(loss=[1.0] * 11 + [math.nan]), evidence(loss=1.0)),
    (10, evidence(memory_norm=[2.0**i for i in range(N)]), evidence(memory_norm=3.0)),
    (11, evidence(loss=2.0), evidence(loss=rising(3, 1))),
    (
        12,
        Evidence(
            metrics=[
                {"step": 0.0, "validation_accuracy": 0.1},
                {"step": 5e3, "validation_accuracy": 0.6, "embedding_dimension_ratio": 0.8},
                {"step": 2e4, "embedding_dimension_ratio": 0.3},
            ]
        ),
        Evidence(
            metrics=[
                {"step": 0.0, "validation_accuracy": 0.1},
                {"step": 5e3, "validation_accuracy": 0.1, "embedding_dimension_ratio": 0.8},
                {"step": 2e4, "embedding_dimension_ratio": 0.3},
            ]
        ),
    ),
    (
        13,
        Evidence(metrics=[*SPARSE, {"step": 2000.0, "embedding_dimension_ratio": 0.01, "validation_accuracy": 0.11}]),
        Evidence(metrics=[*SPARSE, {"step": 9000.0, "embedding_dimension_ratio": 0.01, "validation_accuracy": 0.11}]),
    ),
    (14, evidence(gradient_weight_cosine=0.0), evidence(gradient_weight_cosine=-0.005)),
    (
        15,
        Evidence(metrics=log(softmax_collapse=1.0), task="mathematics"),
        Evidence(metrics=log(softmax_collapse=1.0), task="language"),
    ),
    (16, evidence(memory_relative_update=1e-5), evidence(memory_relative_update=0.1)),
    *[
        (number, Evidence(aims=frozenset({aim})), Evidence())
        for number, aim in (
            (17, "retain longer"),
            (17, "respond faster"),
            (17, "learn faster"),
            (17, "more expressive"),
            (18, "more content"),
            (18, "more practice"),
            (18, "isolation"),
            (19, "easier task"),
            (20, "check natural use"),
        )
    ],
    (20, evidence(**DULL), evidence(**USEFUL)),
    (21, Evidence(task="language"), Evidence(task="mathematics")),
    (
        22,
        evidence(accuracy=1.0, validation_accuracy=[0.1] * 8 + [0.95] * 4),
        evidence(accuracy=1.0, validation_accuracy=0.95),
    ),
    (23, Evidence(task="mathematics"), Evidence(task="language")),
    (
        24,
        evidence(validation_accuracy=0.3),
        Evidence(metrics=[row | {"step": 100 * row["step"]} for row in log(validation_accuracy=0.3)]),
    ),
    (25, evidence(gradient_weight_cosine=0.0, memory_relative_update=0.0), evidence(gradient_weight_cosine=0.0)),
]


@pytest.mark.parametrize(("number", "holds", "fails"), CASES)
def test_each_row_holds_on_its_evidence_and_not_beside_it(number, holds, fails):
    assert number in numbers(holds)
    assert number not in numbers(fails)


def test_the_framework_is_complete():
    assert [row.number for row in FRAMEWORK] == sorted(row.number for row in FRAMEWORK)
    assert {row.number for row in FRAMEWORK} == set(range(1, 26)) == {number for number, _, _ in CASES}
    assert len({(row.condition, row.change) for row in FRAMEWORK}) == len(FRAMEWORK)


def test_without_evidence_no_row_holds():
    assert advise(Evidence()) == []
    assert advise(Evidence(metrics=[{"step": 1.0, "learning_rate": 0.1}])) == []
    few = log(validation_accuracy=0.11, loss=1.0, embedding_dimension_ratio=0.4)[: FEWEST_POINTS - 1]
    assert advise(Evidence(metrics=few)) == []


def test_a_row_says_what_it_saw_and_what_was_corrected():
    (row,) = advise(evidence(gradient_weight_cosine=0.0))
    assert row.evidence == "cosine 0"
    assert "row 14; corrected: of the descent, taken before gradients are cleared" in row.source
    assert row.site == "training"


def test_a_verdict_is_better_evidence_than_a_gate():
    shut, open_ = {"gate_mean": 0.05}, {"gate_mean": 0.95}
    assert numbers(Evidence(site=decorative(measures=shut))) == {6}
    assert numbers(Evidence(site=memory(measures=shut))) == set()
    assert numbers(Evidence(site=memory(measures=open_))) == set()
    assert numbers(Evidence(site=memory(measures=open_, verdict=None))) == {7}
    used = Evidence(site=memory(measures={"state_share": 0.9}), metrics=log(validation_accuracy=0.4))
    assert 4 in numbers(used)


def test_rows_that_ask_for_nothing_can_be_left_out():
    learning = evidence(loss=rising(3, 1))
    assert advise(learning)
    assert advise(learning, fine=False) == []


@pytest.mark.parametrize("row", [row for row in FRAMEWORK if row.generic_command])
def test_every_command_is_one_that_there_is(row):
    assert_runs(row.generic_command)


def test_what_is_not_known_is_neither_held_nor_denied():
    assert {each.finding.holds for each in assess(Evidence()) if each.row.number != 25} == {None}
    assert all(each.finding.needs for each in assess(Evidence()))
    known = assess(evidence(validation_accuracy=0.5))
    missing = {each.row.number: each.finding.needs for each in known if each.finding.holds is None}
    assert missing[4] == ("use", "rank")
    assert 2 not in missing
    (level,) = [each.finding.says for each in known if each.row.number == 2]
    assert level == "held-out accuracy stays at 50.0%"


def test_settings_decide_what_the_task_alone_does_not():
    plain = Settings(weight_decay=0.0, learning_rate=3e-4, stablemax=False, orthogonal_gradient=0.0)
    both = replace(plain, stablemax=True, orthogonal_gradient=0.5)
    assert numbers(Evidence(task="language", settings=plain)) == set()
    assert numbers(Evidence(task="language", settings=both)) == {21, 25}
    assert numbers(Evidence(task="mathematics", settings=plain)) == {23}
    assert numbers(Evidence(task="mathematics", settings=replace(plain, orthogonal_gradient=1.0))) == set()
    assert numbers(Evidence(task="other", settings=plain)) == set()


def test_one_condition_with_two_changes_is_one_suspect():
    found = numbers(evidence(validation_accuracy=0.11, embedding_dimension_ratio=0.4, **DULL))
    assert 3 in found
    unused = Evidence(site=decorative(measures={}), metrics=log(validation_accuracy=0.11, hidden_dimension_ratio=0.4))
    later = replace(unused, metrics=[row | {"step": 100 * row["step"]} for row in unused.metrics])
    assert numbers(later) == {3}
