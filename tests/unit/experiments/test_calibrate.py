"""Calibration: what is finished is kept, what is wrong is counted, and intervals hold what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mnemoscope.examination.judgement.family import Level
from mnemoscope.experiments import calibrate as running
from mnemoscope.experiments import coverage
from mnemoscope.experiments.calibration import Calibration, Instance, markdown, summary, table
from mnemoscope.experiments.planted import KINDS, kinds_named


def instance(kind: str, seed: int, got: str | None = None, **more: str) -> Instance:
    expected = KINDS[kind].expected(1)
    found = expected | ({"memory 1": got} if got else {}) | more
    return Instance(kind=kind, seed=seed, expected=expected, got=found, n_test=8, cpu_seconds=1.0, version="v")


def calibration(*instances: Instance, n_holding: int | None = None) -> Calibration:
    found = None
    if n_holding is not None:
        found = coverage.Coverage(level=0.95, n_samples=100, sample_size=9, n_holding=n_holding, mean=1.0, bank=50)
    return Calibration(instances=instances, coverage=found, seconds=1.0, versions={"torch": "9"})


def test_accuracy_is_the_mean_over_kinds_and_wants_flags_too():
    found = calibration(
        instance("G1", 0), instance("G1", 1, "inconclusive"), instance("G2", 0), instance("G11", 0, "decorative")
    )
    assert found.accuracy == pytest.approx((0.5 + 1 + 0) / 3)
    assert not instance("G2", 0, **{"flag disconnected": "no"}).right
    assert any("macro accuracy 50.0%" in failure for failure in found.failures)


def test_load_bearing_and_decorative_must_not_be_confused_either_way():
    assert instance("G1", 0, "decorative (scale)").confused
    assert instance("G3", 0, "load-bearing (shared)").confused
    assert not instance("G1", 0, "load-bearing (shared)").confused
    assert not instance("G11", 0, "decorative").confused
    assert not instance("G8", 0, "load-bearing (sole)").confused
    right = [instance("G1", seed) for seed in range(339)]
    found = calibration(*right, instance("G1", 339, "starved"))
    assert found.failures == ["1 instances confuse load-bearing and decorative"]
    assert found.confused_at_most is None
    assert calibration(*right).confused_at_most == pytest.approx(3 / 339)


@pytest.mark.parametrize(("n_holding", "accepted"), [(92, False), (93, True), (97, True), (98, False)])
def test_coverage_has_two_sides(n_holding: int, accepted: bool):
    assert (not calibration(instance("G1", 0), n_holding=n_holding).failures) == accepted


def test_the_page_shows_every_kind_and_what_is_not_accepted():
    found = calibration(instance("G2", 0), instance("G1", 0, "decorative"))
    assert [row[0] for row in table(found)] == ["kind", "G1", "G2"]
    page = markdown(found, "Title", "mnemoscope calibrate")
    for expected in ("# Title", "| G1 | load-bearing | load-bearing (sole) | 0 / 1 | decorative 1 |", "NOT ACCEPTED"):
        assert expected in page
    assert all(line in page for line in summary(found))


def test_finished_instances_are_not_examined_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    version, kept = running.version_of_instrument(), tmp_path / "folder" / "kept.jsonl"
    kept.parent.mkdir()
    lines = [instance("G2", 0).model_copy(update={"version": v}).model_dump_json() for v in ("another", version)]
    kept.write_text("\n".join([*lines, '{"kind": "G2", "se']))
    asked: list[list[tuple[str, int]]] = []

    def examined(jobs: list[tuple[str, int]], *_: object):
        asked.append(jobs)
        return iter([instance(kind, seed) for kind, seed in jobs])

    monkeypatch.setattr(running, "_examined", examined)
    said: list[str] = []
    found = running.calibrate(kinds_named(["G2", "G3"]), 2, 1, kept, said.append, coverage=False)
    assert asked == [[("G3", 0), ("G2", 1), ("G3", 1)]]
    assert [(i.kind, i.seed) for i in found.instances] == [("G2", 0), ("G2", 1), ("G3", 0), ("G3", 1)]
    assert "1 of 4 instances are in" in said[0]


def test_a_torn_line_is_ended_and_what_follows_is_read(tmp_path: Path):
    path = tmp_path / "kept.jsonl"
    path.write_text('{"kind": "G2"')
    with path.open("a+b") as file:
        running._end_torn_line(file)
        running._append(file, instance("G1", 0))
        running._append(file, instance("G1", 1))
    assert [i.seed for i in running.read_instances(path, "v")] == [0, 1]
    assert running.read_instances(tmp_path / "none", "v") == []


@pytest.mark.parametrize(("n_instances", "jobs", "name"), [(0, 1, "instances"), (1, 0, "jobs")])
def test_numbers_below_one_are_refused(n_instances: int, jobs: int, name: str, tmp_path: Path):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        running.calibrate(kinds_named(["G1"]), n_instances, jobs, tmp_path / "kept", print)


def test_intervals_hold_the_mean_of_a_bank_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(coverage, "BANK", 20_000)
    bank = coverage.bank_of_differences(0, n=1000)
    assert bank.shape == (1000,)
    assert 1 < bank.mean() < np.log(100)
    monkeypatch.setattr(
        coverage, "bank_of_differences", lambda seed: np.random.default_rng(seed).exponential(size=9999)
    )
    found = coverage.interval_coverage(0, n_samples=400, n_resamples=1000)
    assert 0.92 <= found.share <= 0.98
    monkeypatch.setattr(coverage.Bootstrap, "means", _half_as_wide(coverage.Bootstrap.means))
    assert coverage.interval_coverage(0, n_samples=400, n_resamples=1000).share < 0.8


@pytest.fixture
def skewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bank of three skewed effects on the same sequences."""
    rng = np.random.default_rng(0)
    bank = rng.exponential(size=(9999, 1)) + rng.normal(size=(9999, 3))
    monkeypatch.setattr(coverage, "bank_of_effects", lambda seed: bank)
    monkeypatch.setattr(coverage, "SAMPLE_SIZE", 192)


@pytest.mark.usefixtures("skewed")
def test_looks_and_a_family_share_what_they_are_allowed():
    found = coverage.sequential_coverage(0, n_examinations=100, n_resamples=200, alpha=0.2)
    assert found.looks == (64, 128, 192)
    assert found.n_effects == 3
    assert 0.08 <= found.familywise_error <= 0.27
    assert found.share >= 0.85
    assert sum(found.stopped) == 100
    assert found.stopped[1] > 0
    assert "at any of 3 looks (64, 128, 192 sequences" in str(found)


@pytest.mark.usefixtures("skewed")
@pytest.mark.parametrize("dropped", ["looks", "holm"])
def test_peeking_or_a_family_without_adjustment_is_seen(dropped: str, monkeypatch: pytest.MonkeyPatch):
    def naive(level: Level, tests: int = 1) -> float:
        return 1 - level.alpha / tests if dropped == "looks" else _CONFIDENCE(level, 1)

    monkeypatch.setattr(Level, "confidence", naive)
    found = coverage.sequential_coverage(0, n_examinations=60, n_resamples=200, alpha=0.2)
    assert found.familywise_error > 0.27


_CONFIDENCE = Level.confidence


def test_the_bank_of_effects_pairs_them_on_the_same_sequences():
    bank = coverage.bank_of_effects(0, n=500)
    assert bank.shape == (500, coverage.EFFECTS)
    assert np.array_equal(bank[:, 0], coverage.bank_of_differences(0, n=500))
    assert bank.std(0).min() > 0


@pytest.mark.parametrize(("n_false", "n_holding", "accepted"), [(7, 372, True), (8, 400, False), (0, 371, False)])
def test_looks_are_part_of_the_acceptance_and_of_the_page(n_false: int, n_holding: int, accepted: bool):
    looks = coverage.SequentialCoverage(
        looks=(3, 6, 9),
        n_effects=4,
        n_examinations=100,
        n_false=n_false,
        n_holding=n_holding,
        stopped=(0, 10, 90),
    )
    found = replace(calibration(instance("G1", 0), n_holding=95), looks=looks)
    assert (not found.failures) == accepted
    assert str(looks) in markdown(found, "Title", "x")


def _half_as_wide(means):
    def halved(estimate):
        low, high = ((end + estimate.value) / 2 for end in (estimate.low, estimate.high))
        return estimate.model_copy(update={"low": low, "high": high})

    return lambda self, values: [halved(estimate) for estimate in means(self, values)]
