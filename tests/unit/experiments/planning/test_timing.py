"""Rates are found again from times that were made of them, and estimates from published rates are what they say."""

import pytest

from mnemoscope.experiments.devices import PUBLISHED
from mnemoscope.experiments.planning.calibration import Examined, Size, fit_examination
from mnemoscope.experiments.planning.check import Checked, summary
from mnemoscope.experiments.planning.published import (
    GOOD,
    NETWORK_LINK,
    NODE_LINK,
    POOR,
    all_reduce_bytes,
    all_reduce_seconds,
    step_seconds,
    work_seconds,
)
from mnemoscope.experiments.planning.timing import Peaks, fit
from mnemoscope.experiments.planning.work import Work

LEAST = Peaks(per_flop=1e-11, per_byte=5e-11)
H100 = PUBLISHED["h100-sxm"]

WORKS = [
    Work(n_ops=100 + 40 * i, flops=10**7 * i**2, small_bytes=10**6 * (9 - i), large_bytes=10**6 * i**3)
    for i in range(1, 8)
]


def seconds(work: Work) -> float:
    return 4e-6 * work.n_ops + 2e-11 * work.flops + 1e-10 * work.small_bytes + 3e-10 * work.large_bytes


def test_a_fit_finds_the_rates_and_predicts_a_size_beyond():
    found = fit([(work, seconds(work)) for work in WORKS], LEAST)
    beyond = Work(n_ops=800, flops=10**10, small_bytes=10**6, large_bytes=10**9)
    assert found.error < 1e-3
    assert found.seconds(beyond) == pytest.approx(seconds(beyond), rel=0.01)


def test_no_rate_is_faster_than_the_machine_and_what_was_not_seen_keeps_its_bound():
    found = fit([(work, 1e-9) for work in WORKS], LEAST)
    assert found.per_flop >= LEAST.per_flop
    assert found.per_large_byte >= LEAST.per_byte
    assert found.per_attention_flop == LEAST.per_flop


def test_a_fit_of_two_sizes_is_refused():
    with pytest.raises(ValueError, match="at least 3 measured sizes, got 2"):
        fit([(work, 1.0) for work in WORKS[:2]], LEAST)


def test_examination_rates_are_found():
    rows = [Examined(n_sites, passes, 0.5 * n_sites + 1.5 * passes) for n_sites, passes in ((1, 1), (2, 9), (3, 2))]
    found = fit_examination(rows)
    assert (found.per_site, found.per_pass) == (pytest.approx(0.5), pytest.approx(1.5))
    assert found.seconds(4, 10.0) == pytest.approx(17.0)


def test_an_estimate_is_a_range_around_what_the_rates_say():
    work = Work(n_ops=1000, flops=10**12, large_bytes=10**9)
    low, high = work_seconds(work, H100, "32-true")
    assert low == pytest.approx(1e12 / (GOOD.flops * H100.flops["float32"]))
    products, traffic = 1e12 / (POOR.flops * H100.flops["float32"]), 1e9 / (POOR.bandwidth * H100.bandwidth)
    assert high == pytest.approx(products + traffic + 1000 * POOR.launch_seconds)
    assert work_seconds(work, H100, "bf16-mixed").low < low


def test_gradients_are_reduced_in_a_ring_over_the_slower_link_beyond_a_node():
    assert all_reduce_bytes(100, 1) == 0
    assert all_reduce_bytes(100, 4) == 150
    within, between = all_reduce_seconds(10**9, 8), all_reduce_seconds(10**9, 16)
    assert within.low == pytest.approx(2 * 7 / 8 * 1e9 / (NODE_LINK * GOOD.link))
    assert between.high == pytest.approx(2 * 15 / 16 * 1e9 / (NETWORK_LINK * POOR.link))


def test_a_step_of_many_devices_hides_the_reduction_or_adds_it():
    work = Work(n_ops=10, flops=10**12)
    alone, together = (step_seconds(work, 10**9, H100, "bf16-mixed", count) for count in (1, 16))
    assert alone == work_seconds(work, H100, "bf16-mixed")
    assert together.low == pytest.approx(max(alone.low, all_reduce_seconds(10**9, 16).low))
    assert together.high == pytest.approx(alone.high + all_reduce_seconds(10**9, 16).high)


def test_the_summary_says_whether_the_bar_is_met():
    def row(what: str, predicted: float) -> Checked:
        return Checked(layout="mamba2", size=Size(8, 1, 8), what=what, predicted=predicted, measured=1.0)

    said = summary([row("step", 1.1), row("step", 0.8), row("examination", 1.4)])
    assert "step: 2 held out, median error 15%, largest 20%; under the bar" in said
    assert "examination: 1 held out, median error 40%, largest 40%; NOT under the bar" in said
