import math
from typing import get_args

import pytest

from mnemoscope.examination.judgement import verdict as table
from mnemoscope.reporting import flip as module
from mnemoscope.reporting.flip import RESTS_ON, flip
from mnemoscope.runs.examination import PatchingRecord, Verdict
from tests.unit.reporting import samples
from tests.unit.reporting.samples import at_level, compared, decorative, estimate, examination, loads, memory


def test_thresholds_are_those_of_the_decision():
    for name in ("SOLE_NECESSITY", "SOLE_SHARE", "SATURATED_DROP", "CARRIED", "UNTRAINED_NATS"):
        assert getattr(module, name) == getattr(table, name)


def test_every_verdict_has_its_counterfactual():
    assert set(get_args(Verdict)) == {*RESTS_ON, "untrained", "inconclusive"}
    measured = {name for sides in RESTS_ON.values() for names in sides for name in names}
    assert measured == set(table.DECIDING)


def test_a_decorative_site_must_exceed_the_margin_with_the_effect_that_is_nearest():
    assert flip(decorative(conditional=None), examination()) == (
        "To flip this verdict, the upper end of the effect of zeroing it, now 0.019 nats, would need to exceed the "
        "margin of 0.064 nats."
    )
    site = decorative(
        comparisons=compared(
            optimal_constant=(at_level(0.02, 0.03, 0.99), "below"), zero=(at_level(0.01, 0.01, 0.99), "below")
        )
    )
    assert flip(site, examination()) == (
        "To flip this verdict, the upper end of the best-constant effect, now 0.050 nats, would need to exceed the "
        "margin of 0.064 nats."
    )


def test_a_load_bearing_site_must_fall_below_the_margin():
    assert flip(memory(), examination()) == (
        "To flip this verdict, the lower end of the best-constant effect, now 3.00 nats, would need to fall below the "
        "margin of 0.064 nats; a share below 75 % or a necessity below 50 % would make it shared."
    )
    shared = memory(verdict="load-bearing (shared)")
    assert flip(shared, examination()).endswith("a share of 75 % and a necessity of 50 % would make it sole.")
    assert flip(memory(verdict="load-bearing", share=None), examination()).endswith("margin of 0.064 nats.")


def test_a_constant_for_each_position_counts_before_a_single_one():
    site = memory(
        comparisons=compared(
            optimal_constant=(estimate(0.1, 0.02), "above"),
            position_constant=(estimate(0.3, 0.02), "above"),
            local_horizon=(estimate(0.5, 0.02), "above"),
        )
    )
    assert "the effect of a constant for each position, now 0.280 nats" in flip(site, examination())


def test_history_that_patching_shows_as_well_flips_nothing():
    close = compared(optimal_constant=(estimate(3.0), "above"), local_horizon=(estimate(0.2), "above"))
    patched = PatchingRecord(at=3, denoise=estimate(0.6), noise=None)
    assert "keeping only its last 4 tokens" in flip(memory(comparisons=close), examination())
    assert "best-constant" in flip(memory(comparisons=close, patching=patched), examination())


@pytest.mark.parametrize(
    ("site", "told"),
    [
        (memory(verdict="not-demanded"), "the upper end of the headroom, now 3.29 nats, would need to exceed"),
        (samples.clock(), "a constant for each position, now 0.030 nats, would need to exceed"),
        (decorative(verdict="redundant", conditional=estimate(0.2)), "the best-constant effect, now 0.010 nats"),
        (
            decorative(verdict="redundant", conditional=estimate(0.12)),
            "its worth with everything else off, now 0.070 nats, would need to fall below",
        ),
        (
            decorative(
                verdict="constant-bias",
                effects={
                    "read": {
                        "optimal_constant": estimate(0.0, 0.001),
                        "zero": estimate(0.7),
                        "random_constant": estimate(0.12),
                    }
                },
            ),
            "the lower end of the effect of a random constant, now 0.070 nats, would need to fall below",
        ),
        (
            decorative(
                verdict="decorative (scale)",
                effects={
                    "read": {
                        "optimal_constant": estimate(0.0, 0.001),
                        "zero": estimate(0.7),
                        "random_constant": estimate(0.01),
                    }
                },
            ),
            "the upper end of the effect of a random constant, now 0.060 nats, would need to exceed",
        ),
        (
            memory(verdict="local-only", comparisons=compared(local_horizon=(estimate(0.01), "below"))),
            "the upper end of the effect of keeping only its last 4 tokens, now 0.060 nats, would need to exceed",
        ),
        (samples.starved(), "would need to exceed the margin"),
        (memory(verdict="untrained"), "the model's loss would need to fall below 3.46 nats, 0.01 less than"),
    ],
)
def test_other_verdicts_name_the_end_that_would_have_to_move(site, told):
    assert told in flip(site, examination())


def test_a_saturated_site_is_told_by_its_lowest_load_and_its_accuracy():
    assert flip(samples.saturated(), examination(loads=loads(0.95, 0.8, 0.5))) == (
        "To flip this verdict, the lower end of the best-constant effect at the lowest load, now 2.10 nats, would need "
        "to fall below the margin of 0.064 nats, or accuracy to fall by less than 20 points from load 4 to 16, not by "
        "45."
    )
    assert flip(samples.saturated(), examination()).endswith("the margin of 0.064 nats.")


def test_an_open_verdict_says_which_intervals_must_leave_the_margin():
    site = memory(
        verdict="inconclusive",
        comparisons=compared(
            optimal_constant=(estimate(0.1), "open"), zero=(estimate(0.6), "above"), conditional=(estimate(0.0), "open")
        ),
    )
    assert flip(site, examination()) == (
        "To decide, the best-constant effect and its worth with everything else off need an interval on one side of "
        "the margin of 0.064 nats."
    )
    assert flip(memory(verdict="inconclusive"), examination()) == ""


def test_nothing_is_said_where_nothing_was_measured():
    assert flip(memory(verdict=None), examination()) == ""
    assert flip(memory(effects={}, horizon=[], conditional=None), examination()) == ""
    assert flip(memory(), examination(margin=math.nan)) == ""
    assert flip(samples.not_a_number().examination.sites[0], samples.not_a_number().examination) == ""
    assert flip(memory(verdict="untrained"), examination(constant_output_loss=None)) == ""
