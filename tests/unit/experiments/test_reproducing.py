import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mnemoscope.experiments.published import EXPERIMENTS, find_experiment
from mnemoscope.experiments.reproducing import (
    Claim,
    Experiment,
    Measured,
    Plot,
    Result,
    failures,
    finished,
    reproduce,
    table,
)
from mnemoscope.experiments.reproduction_page import reproduction_of
from mnemoscope.runs import read_record


@dataclass(frozen=True, kw_only=True)
class Dice:
    sides: tuple[int, ...] = (6,)


FREQUENT = Claim(figure="sum", what="sum of eyes", least=7, in_seeds=0.6)
CLAIMS = (
    Claim(figure="sum", what="sum of eyes", published="at least 7", least=7, most=12),
    Claim(figure="threads", what="threads"),
)


def dice(values: Sequence[float], stop_at: int | None = None) -> tuple[Experiment[Dice], list[int]]:
    """An experiment whose figure of each seed is given, and which seeds were measured."""
    measured: list[int] = []

    def measure(settings: Dice, seed: int) -> Measured:
        assert settings == Dice()
        if seed == stop_at:
            raise KeyboardInterrupt
        measured.append(seed)
        figures = {"sum": values[seed], "threads": torch.get_num_threads()}
        return Measured(figures=figures, series={"eyes": (3, 4)})

    experiment = Experiment(
        name="dice", what="Dice", source="-", claims=CLAIMS, sizes={"small": Dice()}, measure=measure
    )
    return experiment, measured


def quiet(line: str) -> None:
    pass


@pytest.mark.parametrize(
    ("least", "most", "value", "holds"),
    [
        (1.0, None, 1.0, True),
        (1.0, None, 0.999, False),
        (None, 2.0, 2.0, True),
        (None, 2.0, 2.1, False),
        (1.0, 2.0, 1.5, True),
        (1.0, 2.0, 3.0, False),
        (1.0, None, math.nan, False),
        (None, 1.0, math.nan, False),
        (None, None, math.nan, True),
        (None, 5.0, math.inf, False),
    ],
)
def test_what_holds(least: float | None, most: float | None, value: float, holds: bool):
    assert Claim(figure="x", what="x", least=least, most=most).holds(value) is holds


def test_the_table_by_hand(tmp_path: Path):
    experiment, _ = dice([7.0, 6.0, 14.0])
    found = reproduce(experiment, 3, "small", tmp_path, quiet)
    assert table(CLAIMS, found) == [
        ["what", "published", "must be", "seed 0", "seed 1", "seed 2", "mean", "spread", "passed"],
        ["sum of eyes", "at least 7", "at least 7, at most 12", "7", "6", "14", "9", "6 to 14", "no (1 of 3)"],
        ["threads", "-", "-", "1", "1", "1", "1", "1 to 1", "-"],
    ]
    assert table(CLAIMS[:1], found[:1])[1][-3:] == ["7", "-", "yes"]
    assert failures(CLAIMS, found) == [
        "sum of eyes of seed 1 must be at least 7, at most 12, is 6",
        "sum of eyes of seed 2 must be at least 7, at most 12, is 14",
    ]


def test_an_interval_over_the_seeds_decides_where_no_size_is_published(tmp_path: Path):
    """Student's t at two degrees of freedom: 4.303 standard errors."""
    above = Claim(figure="sum", what="sum of eyes", least=5.0, by_interval=True)
    assert above.bar == "at least 5 (interval over seeds)"
    for sums, low, high, met in (
        ((9.0, 10.0, 11.0), "7.516", "12.48", True),
        ((6.0, 10.0, 14.0), "0.06345", "19.94", False),
    ):
        experiment, _ = dice(list(sums))
        found = reproduce(experiment, 3, "small", tmp_path / low, quiet)
        assert above.is_met([result.figures for result in found]) is met
        assert table([above], found)[1][-1] == f"{'yes' if met else 'no'} ({low} to {high})"
        broken = [] if met else [f"sum of eyes must be at least 5 (interval over seeds), is {low} to {high}"]
        assert failures([above], found) == broken
        (claim,) = reproduction_of(replace(experiment, claims=[above]), "small", found, 3, "x").claims
        assert (claim.holding, claim.holds) == (3, met)
    (one,) = failures([above], found[:1])
    assert one.endswith("is of one seed, which has no interval")


def test_finished_seeds_are_not_repeated(tmp_path: Path):
    stopping, measured = dice([8.0, 9.0, 10.0], stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        reproduce(stopping, 3, "small", tmp_path, quiet)
    assert measured == [0, 1]
    assert [result.seed for result in finished(stopping, 3, "small", tmp_path)] == [0, 1]
    whole, measured = dice([0.0, 0.0, 10.0])
    said: list[str] = []
    found = reproduce(whole, 3, "small", tmp_path, said.append)
    assert measured == [2]
    assert [result.figures["sum"] for result in found] == [8.0, 9.0, 10.0]
    assert said[0] == f"dice seed 0: in {tmp_path / 'dice' / 'small' / 'seed-0.json'} already"


def test_the_file_of_a_seed_tells_everything(tmp_path: Path):
    experiment, _ = dice([math.inf])
    (result,) = reproduce(experiment, 1, "small", tmp_path, quiet)
    assert [path.name for path in (tmp_path / "dice" / "small").iterdir()] == ["seed-0.json"]
    assert read_record(tmp_path / "dice" / "small" / "seed-0.json", Result) == result
    assert (result.experiment, result.size, result.seed) == ("dice", "small", 0)
    assert (result.settings, result.series) == ({"sides": [6]}, {"eyes": [3.0, 4.0]})
    assert result.figures["sum"] == math.inf
    assert "torch" in result.versions


def test_results_of_other_settings_are_refused(tmp_path: Path):
    experiment, _ = dice([8.0])
    reproduce(experiment, 1, "small", tmp_path, quiet)
    other: Experiment[Any] = replace(experiment, sizes={"small": Dice(sides=(6, 6))})
    with pytest.raises(ValueError, match=r"seed-0\.json was measured with .*6.*name another --out folder"):
        reproduce(other, 1, "small", tmp_path, quiet)


def test_what_cannot_be_asked_for(tmp_path: Path):
    experiment, _ = dice([8.0])
    with pytest.raises(ValueError, match="seeds must be at least 1, got 0"):
        reproduce(experiment, 0, "small", tmp_path, quiet)
    with pytest.raises(ValueError, match="dice has the size small, got paper; give --size small"):
        reproduce(experiment, 1, "paper", tmp_path, quiet)
    with pytest.raises(ValueError, match="did you mean 'perpgrad-strength'"):
        find_experiment("perpgrad-strengths")


def test_every_experiment_can_be_stored():
    for name, experiment in EXPERIMENTS.items():
        assert find_experiment(name) is experiment
        assert len({claim.figure for claim in experiment.claims}) == len(experiment.claims)
        for settings in experiment.sizes.values():
            json.dumps(asdict(settings))


@pytest.mark.parametrize(("sums", "passed"), [((7, 8, 9, 2), "yes (3 of 4)"), ((7, 8, 2, 2), "no (2 of 4)")])
def test_a_claim_of_a_share_of_the_seeds_allows_for_the_rest(tmp_path: Path, sums: Sequence[float], passed: str):
    experiment, _ = dice(sums)
    found = reproduce(experiment, 4, "small", tmp_path, quiet)
    assert table([FREQUENT], found)[1][-1] == passed
    assert len(failures([FREQUENT], found)) == (0 if passed.startswith("yes") else 2)


def test_an_experiment_that_keeps_its_trainings_is_told_where(tmp_path: Path):
    def measure_in(settings: Dice, seed: int, out: Path) -> Measured:
        (out / f"kept-{seed}").touch()
        return Measured(figures={"sum": 7.0, "threads": 1.0}, texts={"rolls": ["three", "four"]})

    experiment, _ = dice([])
    experiment = replace(experiment, measure=None, measure_in=measure_in)
    (result,) = reproduce(experiment, 1, "small", tmp_path, quiet)
    assert (tmp_path / "kept-0").exists()
    assert read_record(tmp_path / "dice" / "small" / "seed-0.json", Result).texts == {"rolls": ["three", "four"]}
    assert result.figures["sum"] == 7.0
    with pytest.raises(ValueError, match="needs either measure or measure_in"):
        replace(experiment, measure_in=None)


def test_lines_that_no_figure_can_hold_are_shared_out_evenly():
    plot = Plot(title="Nine", caption="-", y_label="-", lines={f"line {i}": f"series {i}" for i in range(9)})
    parts = plot.split()
    assert [len(part.lines) for part in parts] == [5, 4]
    assert [part.title for part in parts] == ["Nine (1 of 2)", "Nine (2 of 2)"]
    assert {name: series for part in parts for name, series in part.lines.items()} == plot.lines
    assert plot.split(most=9) == [plot]
