"""Arms that are measured once."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mnemoscope.experiments.kept_arms import arm_file, kept_arm
from mnemoscope.experiments.reproducing import Measured


@dataclass(frozen=True, kw_only=True)
class Toss:
    sides: tuple[int, ...] = (1, 2)


def test_an_arm_is_measured_once_a_seed(tmp_path: Path):
    calls = list[int]()

    def measure() -> Measured:
        calls.append(1)
        return Measured(figures={"sum": 3 + len(calls), "never": float("inf")}, series={"step": range(2)})

    first = kept_arm(tmp_path, "toss", Toss(), 0, measure)
    assert (first.arm, first.seed, first.settings) == ("toss", 0, {"sides": [1, 2]})
    assert (first.figures, first.series) == ({"sum": 4.0, "never": float("inf")}, {"step": [0.0, 1.0]})
    assert kept_arm(tmp_path, "toss", Toss(), 0, measure) == first
    assert len(calls) == 1
    assert kept_arm(tmp_path, "toss", Toss(), 1, measure).figures["sum"] == 5.0
    assert sorted(path.name for path in (tmp_path / "toss").iterdir()) == ["arm-0.json", "arm-1.json"]


def test_an_arm_of_other_settings_is_refused(tmp_path: Path):
    kept_arm(tmp_path, "toss", Toss(), 0, lambda: Measured(figures={}))
    other = replace(Toss(), sides=(6,))
    with pytest.raises(ValueError, match=r"arm-0\.json was measured with .*1, 2.*toss has .*6.*remove the file"):
        kept_arm(tmp_path, "toss", other, 0, lambda: Measured(figures={}))


def test_an_arm_that_fails_leaves_nothing(tmp_path: Path):
    def fail() -> Measured:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_arm(tmp_path, "toss", Toss(), 0, fail)
    assert not arm_file(tmp_path, "toss", 0).exists()
