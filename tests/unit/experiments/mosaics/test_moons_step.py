from dataclasses import replace

import pytest

import benchmarks.three_moons as benchmark
from benchmarks.three_moons import OurMoons, differences, trainers
from mnemoscope.experiments.mosaics.moons_training import MoonsTraining

TINY = MoonsTraining(batch_size=2, length=60, steps=10)


@pytest.mark.parametrize("n_heads", [1, 3])
def test_three_steps_are_those_of_the_official_code(n_heads: int):
    assert max(differences(trainers(n_heads, TINY), TINY).values()) < 1e-5


def test_another_training_is_refused():
    """Bias correction alone makes the first steps shorter."""
    ours, *rivals = trainers(3, TINY)
    assert isinstance(ours, OurMoons)
    ours.settings = replace(TINY, bias_correction=True)
    with pytest.raises(ValueError, match="not the same training"):
        differences([ours, *rivals], TINY)


def test_the_table_has_a_row_for_each_rival(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(benchmark, "SIZES", ((1, 1),))
    benchmark.run()
    head, *rows = capsys.readouterr().out.splitlines()
    assert "theirs / ours" in head
    assert len(rows) == len(trainers(1, TINY)) - 1
    assert all(row.startswith("B1 T800 H1") for row in rows)
