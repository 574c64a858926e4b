"""From the results of seeds to the record of a page."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from mnemoscope.experiments.published import EXPERIMENTS
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot, Series, reproduce, spelt
from mnemoscope.experiments.reproduction_page import reproduction_of, write_page
from mnemoscope.runs import read_record
from mnemoscope.runs.geometry import HeatMap
from mnemoscope.runs.reproduction import Reproduction


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of nothing."""

    rows: int = 2


def measure(settings: Settings, seed: int) -> Measured:
    """Seed 1 stops a step earlier."""
    curve = [0.0, 1.0, 2.0][: 3 - seed]
    series = {"step": [10.0, 20.0, 30.0][: 3 - seed], "a: loss": curve, "own": curve, "grid": [1.0 + seed] * 4}
    return Measured(figures={"last": curve[-1]}, series=series)


def maps(settings: Settings, series: Series) -> list[HeatMap]:
    values = np.reshape(series["grid"], (settings.rows, -1)).tolist()
    return [HeatMap(title="grid", rows=["1", "2"], columns=["1", "2"], values=values)]


PLOTS = (
    Plot(title="Loss", caption="", y_label="nats", lines={"a": "a: loss"}),
    Plot(title="Own", caption="", y_label="nats", lines={"own": "own -> a: loss"}),
)
TOY = Experiment(
    name="toy",
    what="a toy",
    source="none",
    claims=(Claim(figure="last", what="last", least=1.5),),
    sizes={"small": Settings()},
    measure=measure,
    plots=PLOTS,
    heat_maps=maps,
)


def test_the_record_holds_claims_curves_and_matrices_of_all_seeds(tmp_path: Path):
    found = reproduce(TOY, 2, "small", tmp_path, print)
    page = write_page(TOY, "small", found, 3, tmp_path, "mnemoscope reproduce toy")
    assert page == tmp_path / "toy" / "small" / "report.html"
    record = read_record(page.with_name("reproduction.json"), Reproduction)
    assert (record.seeds, record.wanted_seeds, record.settings) == ([0, 1], 3, {"rows": "2"})
    assert (record.claims[0].values, record.claims[0].holding, record.claims[0].bar) == ([2.0, 1.0], 1, "at least 1.5")
    loss, own = (chart.lines[0] for chart in record.charts)
    assert loss.x == [10.0, 20.0, 30.0]
    assert own.x == [0.0, 1.0, 2.0]
    np.testing.assert_equal(loss.y, [[0.0, 1.0, 2.0], [0.0, 1.0, np.nan]])
    assert record.heat_maps[0].values == [[1.5, 1.5], [1.5, 1.5]]
    assert record.pages == []


def test_without_seeds_there_is_a_page_without_figures():
    record = reproduction_of(TOY, "small", [], 3, "")
    assert (record.charts, record.heat_maps, record.seeds, record.claims[0].holds) == ([], [], [], None)


def test_a_plot_of_a_series_that_is_not_measured_fails(tmp_path: Path):
    broken = replace(TOY, plots=(replace(PLOTS[0], lines={"b": "b: loss"}),))
    found = reproduce(broken, 1, "small", tmp_path, print)
    with pytest.raises(KeyError, match="b: loss"):
        reproduction_of(broken, "small", found, 1, "")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_plot_has_more_lines_than_colours(name: str):
    for plot in EXPERIMENTS[name].plots:
        assert 1 <= len(plot.lines) <= 5
        assert plot.caption


def test_settings_within_settings_are_spelt_out():
    held = {"kind": "mqar", "widths": [8, 32], "deeper": {"steps": 900}}

    assert spelt(held) == "kind mqar, widths (8, 32), deeper (steps 900)"
    assert spelt(["attention", "window 8"]) == "attention, window 8"
    assert spelt(0.01) == "0.01"
