"""Every row of the decision table, and what separates it from its neighbours."""

from dataclasses import replace

import pytest

from mnemoscope.examination.judgement.verdict import TABLE, Facts, Saturation, decide, flags_of, outcomes
from mnemoscope.runs import Estimate

NOTHING, OPEN, MUCH = (Estimate(value=v, low=v - 0.005, high=v + 0.005) for v in (0.0, 0.02, 1.0))
MARGIN = 0.02

LOAD_BEARING = Facts(
    margin=MARGIN,
    gain=MUCH,
    headroom=MUCH,
    optimal_constant=MUCH,
    zero=MUCH,
    random_constant=MUCH,
    local_horizon=MUCH,
    single_vector=None,
    conditional=MUCH,
    share=Estimate(value=0.9, low=0.85, high=0.95),
    necessity=0.9,
    routes_known=True,
)

FULL = Saturation(at_lowest_load=MUCH, drop=0.3, state_share=0.9)
DECORATIVE = replace(LOAD_BEARING, optimal_constant=NOTHING, zero=NOTHING, conditional=NOTHING)

CASES = {
    "clock": replace(LOAD_BEARING, position_constant=NOTHING),
    "starved": replace(DECORATIVE, stored=False, starving=True),
    "saturated": replace(LOAD_BEARING, saturation=FULL),
    "untrained": replace(LOAD_BEARING, gain=NOTHING),
    "not-demanded": replace(LOAD_BEARING, headroom=NOTHING),
    "redundant": replace(LOAD_BEARING, optimal_constant=NOTHING),
    "decorative (scale)": replace(LOAD_BEARING, optimal_constant=NOTHING, random_constant=NOTHING, conditional=NOTHING),
    "constant-bias": replace(LOAD_BEARING, optimal_constant=NOTHING, conditional=NOTHING),
    "decorative": DECORATIVE,
    "local-only": replace(LOAD_BEARING, local_horizon=NOTHING),
    "load-bearing (sole)": LOAD_BEARING,
    "load-bearing (shared)": replace(LOAD_BEARING, necessity=0.4),
    "load-bearing": replace(LOAD_BEARING, routes_known=False, share=None, necessity=None),
    "inconclusive": replace(LOAD_BEARING, optimal_constant=OPEN),
}


@pytest.mark.parametrize("verdict", CASES)
def test_each_verdict_has_facts_that_give_it(verdict: str):
    assert decide(CASES[verdict], n_test=100).verdict == verdict


def test_every_row_of_the_table_is_reached():
    assert {row.verdict for row in TABLE} | {"inconclusive"} == set(CASES)


def test_small_share_is_shared_even_where_the_site_is_necessary():
    facts = replace(LOAD_BEARING, share=Estimate(value=0.5, low=0.4, high=0.6))
    assert decide(facts, 100).verdict == "load-bearing (shared)"


def test_bank_earns_load_bearing_through_the_single_vector_and_is_never_local():
    bank = replace(LOAD_BEARING, local_horizon=None, single_vector=MUCH)
    assert decide(bank, 100).verdict == "load-bearing (sole)"
    assert decide(bank, 100).because.startswith("its slots are told apart")
    assert decide(replace(bank, single_vector=NOTHING), 100).verdict == "inconclusive"


def test_site_whose_state_cannot_be_cut_stays_open():
    decision = decide(replace(LOAD_BEARING, local_horizon=None), 100)
    assert decision.verdict == "inconclusive"
    assert decision.required_sequences is None
    assert "cannot be cut" in decision.because


def test_unknown_routes_leave_effects_without_a_verdict():
    facts = replace(CASES["decorative"], routes_known=False)
    decision = decide(facts, 100)
    assert decision.verdict is None
    assert "routes" in decision.because


def test_inconclusive_says_what_is_open_and_how_many_sequences_decide():
    decision = decide(CASES["inconclusive"], n_test=100)
    assert "optimal constant" in decision.because
    assert decision.required_sequences is not None
    assert decision.required_sequences > 100


@pytest.mark.parametrize("verdict", ["decorative", "decorative (scale)", "constant-bias"])
def test_an_open_conditional_effect_leaves_redundancy_open(verdict: str):
    assert decide(replace(CASES[verdict], conditional=OPEN), 100).verdict == "inconclusive"


def test_flags():
    harmful = replace(LOAD_BEARING, optimal_constant=Estimate(value=-1.0, low=-1.1, high=-0.9))
    assert any(flag.startswith("harmful") for flag in flags_of(harmful, None, NOTHING, None, reachable=True))
    assert any(flag.startswith("disconnected") for flag in flags_of(LOAD_BEARING, None, MUCH, None, reachable=False))
    assert any(flag.startswith("noisy") for flag in flags_of(CASES["constant-bias"], "constant-bias", MUCH, None, True))
    bank = replace(CASES["constant-bias"], single_vector=NOTHING)
    assert "uniform" in flags_of(bank, "constant-bias", NOTHING, 1.0, reachable=True)
    assert "winner-take-all" in flags_of(bank, "constant-bias", NOTHING, 0.01, reachable=True)


@pytest.mark.parametrize(("stored", "starving"), [(True, True), (None, True), (False, False)])
def test_only_a_memory_without_content_and_without_gradient_is_starved(stored: bool | None, starving: bool):
    assert decide(replace(DECORATIVE, stored=stored, starving=starving), 100).verdict == "decorative"


def flags_of_decided(facts: Facts) -> list[str]:
    return flags_of(facts, decide(facts, 100).verdict, MUCH, None, reachable=True)


def test_stored_and_not_used_is_said():
    assert flags_of_decided(replace(DECORATIVE, stored=True)) == [
        "stored, not used: a probe finds the answer in the read"
    ]
    assert flags_of_decided(replace(LOAD_BEARING, stored=True)) == []


@pytest.mark.parametrize(
    ("verdict", "changes"),
    [
        ("not-demanded", {"headroom": NOTHING}),
        ("untrained", {"gain": NOTHING}),
        ("redundant", {"conditional": MUCH}),
        (None, {"routes_known": False}),
        ("inconclusive", {"conditional": OPEN}),
    ],
)
@pytest.mark.parametrize("of", ["decorative", "constant-bias"])
def test_nothing_is_said_of_use_where_the_verdict_leaves_it_open(verdict: str, changes: dict[str, object], of: str):
    facts = replace(CASES[of], stored=True, **changes)
    assert decide(facts, 100).verdict == verdict
    assert flags_of_decided(facts) == []


@pytest.mark.parametrize(
    "less",
    [
        {"drop": 0.1},
        {"state_share": 0.5},
        {"state_share": None},
        {"at_lowest_load": NOTHING},
        {"state_share": 0.5, "stale_answers": 0.05},
        {"state_share": None, "drifts": False},
    ],
)
def test_saturation_needs_use_a_drop_and_a_full_state(less: dict[str, object]):
    facts = replace(LOAD_BEARING, saturation=replace(FULL, **less))
    assert decide(facts, 100).verdict == "load-bearing (sole)"


def test_an_open_effect_at_the_lowest_load_leaves_saturation_open_and_says_what_would_decide():
    facts = replace(LOAD_BEARING, saturation=replace(FULL, at_lowest_load=OPEN))
    decision = decide(facts, 100)
    assert decision.verdict == "inconclusive"
    assert "at lowest load" in decision.because
    assert decision.required_sequences is not None
    assert decide(replace(facts, local_horizon=NOTHING), 100).verdict == "inconclusive"
    assert (
        decide(replace(facts, saturation=replace(FULL, at_lowest_load=OPEN, drop=0.1)), 100).verdict != "inconclusive"
    )


@pytest.mark.parametrize("evidence", [{"stale_answers": 0.2}, {"drifts": True}])
def test_stale_answers_or_a_drifting_state_fill_a_memory_too(evidence: dict[str, object]):
    facts = replace(LOAD_BEARING, saturation=replace(FULL, state_share=None, **evidence))
    assert decide(facts, 100).verdict == "saturated"


def test_a_memory_that_is_worth_more_than_a_clock_is_judged_by_its_content():
    assert decide(replace(LOAD_BEARING, position_constant=MUCH), 100).verdict == "load-bearing (sole)"
    assert decide(replace(LOAD_BEARING, position_constant=OPEN), 100).verdict == "inconclusive"


def test_outcomes_say_where_every_deciding_effect_lies():
    facts = replace(LOAD_BEARING, optimal_constant=OPEN, zero=None, random_constant=NOTHING)
    found = {name: outcome for name, (_, outcome) in outcomes(facts).items()}
    assert found["optimal_constant"] == "open"
    assert found["random_constant"] == "below"
    assert found["headroom"] == "above"
    assert "zero" not in found
