import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest

from mnemoscope.reporting.canvas import MOST_SERIES, SERIES, VARIABLES, short_names, shortened
from mnemoscope.reporting.curves import MOST_POINTS, horizon_figure, loads_figure, positions_figure, training_figure
from mnemoscope.reporting.figures import case_figures, comparison_figures
from mnemoscope.reporting.forest import effects_figure
from mnemoscope.reporting.glossary import INTERVENTIONS
from mnemoscope.runs import PositionCurve
from tests.unit.reporting import samples
from tests.unit.reporting.samples import HOSTILE, decorative, examination, memory


def test_a_full_record_has_four_figures_with_their_numbers():
    drawings = case_figures(samples.after(), "k")
    assert [drawing.title for drawing in drawings] == [
        "Effect of each intervention",
        "Loss by position",
        "How far back the memory is used",
        "Training",
    ]
    for drawing in drawings:
        assert drawing.rows
        assert all(len(row) == len(drawing.columns) for row in drawing.rows)


@pytest.mark.parametrize("case", [samples.text, *samples.EDGES])
def test_svg_is_well_formed_labelled_and_closed_in_itself(case):
    ids: list[str] = []
    for drawing in case_figures(case(), "case-1") + case_figures(case(), "case-2") + comparison_figures([case()]):
        root = ElementTree.fromstring(drawing.svg)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        own = [node.get("id") for node in root.iter() if node.get("id")]
        ids += own
        referred = re.findall(r'(?:href="#|url\(#)([^")]+)', drawing.svg)
        assert set(referred) == set(own)
        assert "http" not in drawing.svg
    assert len(ids) == len(set(ids))


def test_every_colour_of_a_figure_is_a_variable():
    for drawing in case_figures(samples.text(), "k"):
        colours = set(re.findall(r"(?<!, )#[0-9a-f]{6}", drawing.svg))
        assert colours == set()
        assert set(re.findall(r"var\((--[^,]+),", drawing.svg)) <= set(VARIABLES.values())


def test_series_differ_in_grey_by_more_than_colour():
    assert len({*SERIES}) == MOST_SERIES
    drawing = horizon_figure(examination(sites=[memory(f"m{i}") for i in range(3)]), "k")
    assert drawing is not None
    dashes = set(re.findall(r"stroke-dasharray: ([^;\"]+)", drawing.svg))
    assert len(dashes) >= 3


def test_effects_table_holds_every_measured_effect():
    drawing = effects_figure(examination(), "k")
    assert drawing is not None
    assert ["blocks.1.memory", "read", "best constant", "3.10", "3.00", "3.20"] in drawing.rows
    assert ["blocks.1.memory", "contribution", "zero", "5.58", "5.48", "5.68"] in drawing.rows
    assert ["blocks.1.memory", "read", "last 4 tokens only", "5.27", "5.21", "5.33"] in drawing.rows
    assert "headroom 3.20" in drawing.svg


def test_long_curves_are_averaged_by_weight():
    curve = PositionCurve(positions=list(range(640)), loss=[float(i % 2) for i in range(640)], n_sequences=[3, 1] * 320)
    drawing = positions_figure(examination(base=curve, sites=[]), "k")
    assert drawing is not None
    assert len(drawing.rows) == MOST_POINTS
    assert drawing.rows[0] == ["4.5", "0.250"]
    assert "Each point averages 10 positions." in drawing.caption


def test_training_curves_share_their_steps():
    rows = [
        {"step": step, "train_loss": 1.0} | ({"accuracy": 0.5} if step % 50 == 0 else {}) for step in range(1, 1001)
    ]
    drawing = training_figure(rows, "k")
    assert drawing is not None
    assert drawing.columns == ["Step", "train loss", "accuracy"]
    assert len(drawing.rows) <= MOST_POINTS
    assert drawing.rows[-1][0] == "1000"


def test_only_the_most_costly_memories_are_drawn_in_the_order_of_the_model():
    sites = [memory(f"m{i}", scale) for i, scale in enumerate([3, 1, 2, 5, 4, 6, 0.5])]
    drawing = horizon_figure(examination(sites=sites), "k")
    assert drawing is not None
    assert [name.split()[2] for name in drawing.columns[1:]] == ["m0", "m2", "m3", "m4", "m5"]
    assert "The 5 most costly of 7 memories are shown." in drawing.caption


def test_accuracy_is_drawn_over_several_loads_only():
    drawing = loads_figure(examination(loads=samples.loads(0.99, 0.71, 0.42)), "k")
    assert drawing is not None
    assert drawing.rows == [["4", "0.990", "256"], ["8", "0.710", "255"], ["16", "0.420", "254"]]
    assert loads_figure(examination(loads=samples.loads(0.99)), "k") is None
    assert loads_figure(examination(loads=samples.loads(0.99, float("nan"))), "k") is None


def test_every_intervention_is_in_the_numbers_of_the_effects():
    effects = {"read": {name: samples.estimate(0.1 * i) for i, name in enumerate(INTERVENTIONS)}}
    for n_sites in (1, 6):
        drawing = effects_figure(examination(sites=[memory(f"m{i}", effects=effects) for i in range(n_sites)]), "k")
        assert drawing is not None
        assert {row[2] for row in drawing.rows} >= set(INTERVENTIONS.values())


def test_a_group_has_its_effects_between_memories_and_routes():
    drawing = effects_figure(samples.complete().examination, "k")
    assert drawing is not None
    sites = list(dict.fromkeys(row[0] for row in drawing.rows))
    assert sites == ["blocks.0.memory", "blocks.1.memory", "blocks.2.memory", "all memories", "blocks.1.attention"]


def test_figures_without_numbers_are_left_out():
    assert case_figures(samples.bare(), "k") == []
    titles = [drawing.title for drawing in case_figures(samples.not_a_number(), "k")]
    assert titles == ["Effect of each intervention", "Loss by position"]
    assert training_figure([{"step": 1, "learning_rate": 0.1}], "k") is None
    assert comparison_figures([samples.unknown_routes()]) == []


def test_drawing_leaves_no_trace_in_the_settings_of_matplotlib():
    with mpl.rc_context({"font.size": 31, "svg.fonttype": "path"}):
        first = effects_figure(examination(), "k")
        assert mpl.rcParams["font.size"] == 31
    assert first == effects_figure(examination(), "k")


def test_names_are_shortened_where_they_do_not_differ():
    assert short_names(["blocks.0.memory", "blocks.1.memory"]) == ["blocks.0.memory", "blocks.1.memory"]
    long = [f"model.layers.{i}.linear_attention_module.state" for i in (3, 17)]
    assert short_names(long) == ["…3.linear_at…_module.state", "…17.linear_a…_module.state"]
    assert short_names(["x" * 300]) == ["x" * 12 + "…" + "x" * 13]
    assert short_names([]) == []
    assert len(shortened("y" * 27)) == 26


def test_a_hostile_name_stays_text():
    drawing = effects_figure(examination(sites=[memory(HOSTILE), decorative("b")]), "k")
    assert drawing is not None
    assert "<script" not in drawing.svg
    assert "\u202e" not in drawing.svg
