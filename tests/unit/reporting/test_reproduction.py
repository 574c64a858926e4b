"""The page of a reproduced figure."""

import json
import math
import re
from pathlib import Path

import pytest

from mnemoscope.reporting.reproduction import chart_figure, headline, render_reproduction, write_reproduction
from mnemoscope.runs import read_record, write_record
from mnemoscope.runs.geometry import HeatMap
from mnemoscope.runs.reproduction import (
    Chart,
    ChartLine,
    ClaimResult,
    MovingPicture,
    MovingScene,
    Reproduction,
    SceneFrame,
    TextTable,
)

NAN = float("nan")
CHART = Chart(
    title="Recall",
    caption="How much is recalled.",
    x_label="training step",
    y_label="accuracy (fraction)",
    lines=[
        ChartLine(name="memory", x=[0, 10, 20], y=[[0.1, 0.5, 0.9], [0.2, 0.6, NAN]]),
        ChartLine(name="no memory", x=[0, 20], y=[[0.1, 0.1], [0.1, 0.3]]),
    ],
)


def reproduction(**changes: object) -> Reproduction:
    made = Reproduction(
        experiment="recall",
        what="Does <it> recall?",
        source="A paper",
        size="small",
        command="mnemoscope reproduce recall",
        seeds=[0, 1],
        wanted_seeds=3,
        claims=[
            ClaimResult(what="accuracy", published="0.99", bar="at least 0.8", values=[0.9, 0.7], holding=1),
            ClaimResult(what="loss", bar="at most 1", values=[0.5, 0.7], holding=2),
            ClaimResult(what="norm", values=[3.0, 5.0], holding=2),
        ],
        charts=[CHART],
        heat_maps=[HeatMap(title="Who is near whom", rows=["a", "b"], columns=["a", "b"], values=[[0, 1], [1, 0]])],
        seconds=90.0,
        settings={"steps": "20"},
        versions={"python": "3.11"},
    )
    return made.model_copy(update=changes)


def test_the_headline_counts_claims_that_hold_in_every_seed_and_seeds_that_are_missing():
    assert headline(reproduction()) == "1 of 2 claims hold in both seeds; 1 of 3 seeds are not finished."
    assert headline(reproduction(wanted_seeds=2)) == "1 of 2 claims hold in both seeds."
    assert headline(reproduction(claims=[])) == "Nothing is claimed; figures of 2 seeds are shown."


def test_a_claim_without_bound_or_seed_neither_holds_nor_fails():
    assert ClaimResult(what="norm", values=[3.0], holding=1).holds is None
    assert ClaimResult(what="norm", bar="at most 1", values=[], holding=0).holds is None
    assert ClaimResult(what="norm", bar="at most 1", values=[2.0, 0.5], holding=1).holds is False


def test_the_page_shows_claims_means_and_what_broke_and_asks_for_nothing_outside():
    page = render_reproduction(reproduction())
    assert "NO, in 1 of 2" in page
    assert "accuracy must be at least 0.8." in page
    assert "Does &lt;it&gt; recall?" in page
    assert re.search(r">4<.*>3<.*>5<", page, re.DOTALL), "mean, then each seed"
    assert "Who is near whom" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "<script" not in page
    assert render_reproduction(reproduction()) == page


def test_pages_beside_it_are_linked():
    assert '<a href="geometry-0.html">' in render_reproduction(reproduction(pages=["geometry-0.html"]))


def test_a_chart_has_the_numbers_it_draws():
    drawing = chart_figure(CHART, "chart")
    assert drawing is not None
    assert drawing.columns == ["training step", "memory, mean (range)", "no memory, mean (range)"]
    assert drawing.rows[0] == ["0", "0.15 (0.1 to 0.2)", "0.1 (0.1 to 0.1)"]
    assert drawing.rows[1][0] == "10"
    assert drawing.rows[1][1] == "0.55 (0.5 to 0.6)"
    assert drawing.svg.count("<path") > 4


def test_a_long_curve_keeps_its_ends_in_the_table():
    line = ChartLine(name="a", x=[float(i) for i in range(1000)], y=[[float(i) for i in range(1000)]])
    drawing = chart_figure(CHART.model_copy(update={"lines": [line]}), "chart")
    assert drawing is not None
    assert len(drawing.rows) <= 42
    assert [drawing.rows[0][0], drawing.rows[-1][0]] == ["0", "999"]


@pytest.mark.parametrize("log_x", [False, True])
def test_axes_may_be_logarithmic_and_start_at_zero(log_x: bool):
    assert chart_figure(CHART.model_copy(update={"log_x": log_x, "log_y": True}), "chart") is not None


def test_a_chart_of_nothing_is_not_drawn():
    line = ChartLine(name="a", x=[0.0], y=[[math.nan]])
    assert chart_figure(CHART.model_copy(update={"lines": [line]}), "chart") is None


def test_it_survives_the_disk(tmp_path: Path):
    record = reproduction(charts=[])
    write_record(tmp_path / "reproduction.json", record)
    assert read_record(tmp_path / "reproduction.json", Reproduction) == record
    page = write_reproduction(record, tmp_path / "deep" / "report.html")
    assert page.read_text() == render_reproduction(record)


def test_a_claim_of_some_seeds_holds_when_they_do():
    some = ClaimResult(what="accuracy", bar="at least 0.8", values=[0.9, 0.7, 0.8], holding=2, needed=2)
    assert some.holds is True
    assert some.model_copy(update={"needed": 3}).holds is False


def test_marks_stand_in_the_drawing_and_tables_of_words_on_the_page():
    marked = CHART.model_copy(update={"marks": {"one period": 12.0}})
    words = TextTable(title="How it goes on", caption="As <said>.", columns=["Beginning", "End"], rows=[["a", "<b>"]])
    page = render_reproduction(reproduction(charts=[marked], tables=[words]))
    assert "one period" in page
    assert "How it goes on" in page
    assert "&lt;b&gt;" in page
    assert "<script" not in page


def test_a_picture_that_moves_brings_its_script_and_fits_all_frames_at_one_scale():
    frames = [
        SceneFrame(label="1", points=[(0, 0, 0), (1, 0, 0)]),
        SceneFrame(label="2", points=[(0, 0, 0), (2, 0, 0)]),
    ]
    scene = MovingScene(
        name="sky", names=["planet", "moon"], groups=[-1, 0], group_names=["moon"], edges=[], frames=frames
    )
    picture = MovingPicture(title="The sky", caption="Moons.", through="Time", scenes=[scene])
    page = render_reproduction(reproduction(moving=[picture]))
    assert page.count("<script") == 2
    assert "script-src 'sha256-" in page
    points = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page)[1])["scenes"][0]["frames"]
    spans = [frame["points"][1][0] - frame["points"][0][0] for frame in points]
    assert spans[1] == pytest.approx(2 * spans[0], abs=0.01)
    with pytest.raises(ValueError, match="needs at least one scene"):
        render_reproduction(reproduction(moving=[picture.model_copy(update={"scenes": []})]))


def test_labels_of_a_logarithmic_axis_are_plain_numbers():
    log = CHART.model_copy(update={"log_y": True, "log_x": True})
    page = render_reproduction(reproduction(charts=[log]))
    assert "mathdefault" not in page
    assert ">0.1<" in page


@pytest.mark.parametrize(("low", "high"), [(2.0, 3.0), (0.5, 4.0), (1e-3, 90.0)])
def test_logarithmic_axes_have_labels_whether_they_span_less_or_more_than_a_decade(low: float, high: float):
    narrow = CHART.model_copy(
        update={"log_y": True, "lines": [ChartLine(name="loss", x=[0, 1, 2], y=[[low, (low * high) ** 0.5, high]])]}
    )
    drawn = chart_figure(narrow, "chart")
    assert drawn is not None
    assert "mathdefault" not in drawn.svg
    y_labels = re.findall(r">([0-9.e-]+)</text>", drawn.svg)
    assert sum(low <= float(label) <= high for label in y_labels) >= 2
