"""A verdict as a test of a user's own suite: what passes, and what a failure says."""

from functools import cache
from typing import Any

import pytest
from torch import nn

import mnemoscope as ms
from mnemoscope.examination.assertion import require_load_bearing
from mnemoscope.experiments.planted.models import disconnected, load_bearing
from mnemoscope.experiments.planted.world import World, recall
from mnemoscope.runs import Examination
from mnemoscope.runs.examination import Estimate, Verdict

BUDGET = ms.Budget(n_calibration=64, n_test=192, fit_steps=60, joint_fit_steps=30, windows=(1,), n_resamples=400)


@cache
def passed() -> Examination:
    world = World.draw(0)
    data = world.batches(recall, 16, 16)
    return ms.assert_load_bearing(load_bearing(world), data, budget=BUDGET, at_least="sole")


def told(examination: Examination, at_least: str = "shared") -> str:
    with pytest.raises(AssertionError) as error:
        require_load_bearing(examination, at_least)
    return str(error.value)


def altered(verdict: Verdict | None, **change: Any) -> Examination:
    """The examination of the load-bearing memory, with another outcome."""
    site = passed().sites[0].model_copy(update={"verdict": verdict, "because": "a reason", **change})
    return passed().model_copy(update={"sites": [site], "margin": 0.0312})


def test_a_load_bearing_memory_passes():
    assert [site.verdict for site in passed().sites] == ["load-bearing (sole)"]


def test_a_disconnected_memory_fails_with_all_that_is_needed():
    world = World.draw(0)
    with pytest.raises(AssertionError) as error:
        ms.assert_load_bearing(disconnected(world), world.batches(recall, 16, 16), sites=["memories.*"], budget=BUDGET)
    message = str(error.value)
    assert message.startswith("1 of 1 memory of Planted not load-bearing as asked (at least shared), on 192 sequences:")
    assert "memories.0 (" in message
    assert "): decorative: neither the best constant nor zero in its place is missed" in message
    assert "best constant in its place: 0.000 [0.000, 0.000] at " in message
    assert ", margin 0." in message
    assert "disconnected: even a large random read changes no loss" in message
    assert "to do: " in message


def test_only_what_is_asked_must_hold():
    require_load_bearing(altered("load-bearing (shared)"))
    require_load_bearing(altered("load-bearing"), "ungraded")
    assert "ask at_least='shared'" in told(altered("load-bearing (shared)"), "sole")
    assert "routes=[...]" in told(altered("load-bearing"), "shared")
    assert "no verdict: a reason" in told(altered(None), "ungraded")


def test_an_open_question_fails_with_the_sequences_that_would_decide():
    effect = Estimate(value=0.03, low=-0.01, high=0.08)
    effects = {"read": {"optimal_constant": effect}}
    message = told(altered("inconclusive", required_sequences=4321, effects=effects))
    assert "memories.0 (" in message
    assert "inconclusive: a reason" in message
    assert "best constant in its place: 0.030 [-0.010, 0.080] at 95 %, margin 0.031 nats" in message
    assert "to do: test on 4321 sequences" in message
    assert "no data decide this" in told(altered("inconclusive", required_sequences=None))


def test_one_memory_of_several_is_enough_to_fail():
    sites = [passed().sites[0], altered("local-only").sites[0]]
    assert told(passed().model_copy(update={"sites": sites})).startswith("1 of 2 memories")


def test_an_unknown_grade_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="at_least must be one of ungraded, shared, sole, got 'lonely'"):
        ms.assert_load_bearing(nn.Identity(), [], at_least="lonely")
