"""The page of a geometry examination: whole, silent but for its one script, and with every number on it."""

import base64
import functools
import hashlib
import json
import math
import re
import subprocess
import sys

import pytest

from mnemoscope.reporting.geometry import render_geometry, write_geometry
from mnemoscope.reporting.geometry_glossary import GEOMETRY_METRICS
from mnemoscope.reporting.geometry_scenes import turning
from mnemoscope.reporting.geometry_tables import metric_meaning, metric_name, snapshots_of
from mnemoscope.reporting.turning import Frame, Scene, as_json
from mnemoscope.runs.geometry import GraphSpectrum, HeatMap
from tests.unit.reporting.geometry_samples import EDGES, bare, geometric, hostile, large
from tests.unit.reporting.samples import HOSTILE
from tests.unit.reporting.test_page import outline

DATA = re.compile(r'<script type="application/json">(.*?)</script>', re.DOTALL)
SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@functools.cache
def page() -> str:
    return render_geometry(geometric())


@functools.cache
def large_page() -> str:
    return render_geometry(large())


def words(html: str) -> str:
    """What is read on the page, without scripts."""
    text = " ".join(outline(SCRIPT.sub("", DATA.sub("", html)).replace("<wbr>", "")).words)
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("made", [geometric, bare, lambda: hostile(HOSTILE), lambda: hostile("</script><b>&'")])
def test_the_page_is_well_formed_and_asks_for_nothing(made):
    html = render_geometry(made())
    parsed = outline(html)
    for tag, attributes in parsed.tags:
        assert tag not in {"img", "iframe", "object", "embed", "b"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            saved = target is not None and target.startswith("data:") and "download" in attributes
            inside = target is None or target.startswith(("#", "data:image/png;base64,")) or target == "data:,"
            assert inside or saved
    assert "http" not in html.replace("http-equiv", "")
    assert not re.search(r"url\((?!#)", html)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "\u202e" not in html
    assert "alert(1)</script>" not in html


def test_the_one_script_is_the_one_that_the_policy_names():
    html = render_geometry([geometric(), geometric("again")])
    (script,) = SCRIPT.findall(html)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', html)
    assert policy.endswith(f"; script-src 'sha256-{digest}'")
    assert len(DATA.findall(html)) == 2
    assert re.findall(r"<script[^>]*>", html).count("<script>") == 1
    without = render_geometry(bare())
    assert "<script" not in without
    assert "script-src" not in without


def test_verdict_then_measures_then_picture_then_figures():
    text = words(page())
    order = [
        "star: does the table of embeddings hold its graph as a map, or not at all?",
        "The table is a map of the graph.",
        "◆ geometric smooth",
        "neighbours are as close as R = 0.812; shuffled 0.000 ± 0.100, z = 8.1",
        "nothing is known of held-out paths",
        "Nodes 7",
        "Smoothness R Weighted mean of the eigenvalues",
        "0.812 0.000 ± 0.100 +8.1 0.002 7 nodes",
        "0.900 0.500 ± 0.100 +4.0",
        "Effective dimension exp of the entropy",
        "5.25 – – – 7 nodes",
        "Not measured: no paths were given.",
        "a_later_measure 123.00 100.00 ± 0.100 +230",
        "The nodes in three dimensions",
        "7 nodes, lines are the graph's edges. Colours: branches from the hub. Principal axes hold 88 % of the",
        "branch 1",
        "node 0 0 0 0",
        "Measures beside chance",
        "Variance over the graph's eigenvectors",
        "1 0.293 40 %",
        "Closeness by distance in the graph",
        "1 0.800 6",
        "What training did",
        "Leaf by first hop",
        "mean on the diagonal 0.200, off it 0.800",
        "Through training",
        "100 ≡ associative 0.300 z +3.0",
        "How it was made",
        "principal axes of 7 nodes, 88 % of the variance; the graph's own eigenvectors of 7 nodes",
        "mnemoscope 0.1.0, numpy 2.0",
        "How to read this",
        "mnemoscope geometry step-*.npy --edges star.txt",
    ]
    found = [text.find(part) for part in order]
    assert -1 not in found, order[found.index(-1)]
    assert found == sorted(found), [order[i] for i in range(1, len(found)) if found[i] < found[i - 1]]


def test_several_are_compared_first():
    html = render_geometry([geometric(), bare()])
    text = words(html)
    assert text.index("Side by side") < text.index("star: does the table")
    assert text.index("star: does the table") < text.index("bare: does the table")
    assert "Verdict ◆ geometric smooth ○ not memorised" in text
    assert "Smoothness R 0.812 z +8.1 –" in text
    with pytest.raises(ValueError, match="at least one geometry examination"):
        render_geometry([])


def scenes(html: str) -> list[dict]:
    return [scene for data in DATA.findall(html) for scene in json.loads(data)["scenes"]]


def test_the_scenes_hold_every_step_fitted_to_one_size():
    pca, laplacian = scenes(page())
    assert pca["name"] == "principal axes"
    assert [frame["label"] for frame in pca["frames"]] == ["step 0", "step 100", "step 1,000"]
    assert [frame["label"] for frame in laplacian["frames"]] == [""]
    for frame in pca["frames"]:
        distances = [math.dist(point, (0, 0, 0)) for point in frame["points"]]
        assert max(distances) == pytest.approx(1, abs=2e-3)
        assert [sum(axis) for axis in zip(*frame["points"], strict=True)] == pytest.approx([0, 0, 0], abs=5e-3)
    assert pca["edges"] == EDGES
    assert pca["groups"] == [-1, 0, 0, 1, 1, 2, 2]
    assert pca["groupNames"] == ["branch 1", "branch 2", "branch 3"]
    assert pca["names"][3] == "node 3"


def test_groups_are_those_given_else_components_else_branches_else_none():
    def coloured(**changes):
        drawn = {"pictures": geometric().pictures[-1:], "edges": EDGES}
        (scene,) = scenes(render_geometry(bare().model_copy(update=drawn | changes)))
        return scene["groups"], scene["groupNames"]

    assert coloured(node_groups=[7, 7, -1, 2, 2, 2, 2]) == ([1, 1, -1, 0, 0, 0, 0], ["group 2", "group 7"])
    parts = coloured(edges=[[0, 1], [1, 2], [3, 4], [4, 5], [5, 6]])
    assert parts == ([0, 0, 0, 1, 1, 1, 1], ["component 1", "component 2"])
    assert coloured(edges=[[i, i + 1] for i in range(6)]) == ([-1] * 7, [])


def test_only_edges_between_drawn_nodes_are_joined_by_their_places():
    (picture, *_) = geometric().pictures
    part = picture.model_copy(update={"nodes": [0, 5, 6], "coordinates": picture.coordinates[4:]})
    html = render_geometry(bare().model_copy(update={"pictures": [part], "edges": EDGES}))
    (scene,) = scenes(html)
    assert scene["edges"] == [[0, 1], [1, 2]]
    assert "3 of 7 nodes" in words(html)


def test_hostile_names_come_back_whole_and_cannot_end_the_element():
    html = render_geometry(hostile(HOSTILE))
    (data,) = DATA.findall(html)
    assert not set("<>&'") & set(data)
    assert data.isascii()
    (scene, _) = json.loads(data)["scenes"]
    assert scene["names"][3] == "3" + HOSTILE.replace("\u202e", "�").replace("\n", "�")
    assert json.loads(as_json({"a": "</script>&'\u2028"})) == {"a": "</script>&'\u2028"}


def test_coordinates_that_are_not_finite_stay_out_of_the_json():
    (picture, *_) = geometric().pictures
    broken = [[math.nan, 0.0, 0.0], *picture.coordinates[1:]]
    part = picture.model_copy(update={"coordinates": broken})
    (scene,) = scenes(render_geometry(bare().model_copy(update={"pictures": [part]})))
    assert scene["frames"][0]["points"][0] == [0, 0, 0]


def test_a_picture_without_scripts_is_there_too():
    html = page()
    (still,) = re.findall(r"<noscript>(.*?)</noscript>", html, re.DOTALL)
    assert still.startswith("<svg")
    assert "7 nodes and 6 edges in three dimensions" in still
    assert not re.search(r"#[0-9a-f]{6}", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", still))


def test_the_spectrum_adds_up_however_many_eigenvectors_share_a_bar():
    html = large_page()
    rows = re.findall(r"<tr>.*?</tr>", html.split("Numbers of the figure: Variance over")[2].split("</table>")[0])
    shares = [float(re.findall(r'class="value">([\d.]+) %', row)[-1]) for row in rows[1:]]
    assert 50 < len(shares) <= 60
    assert sum(shares) == pytest.approx(100, abs=3)
    ends = bare().model_copy(
        update={"spectrum": GraphSpectrum(eigenvalues=[0.9, 0.8, -0.9, -1.0], shares=[0.1] * 4, is_whole=False)}
    )
    assert "Only both ends of the spectrum were computed." in words(render_geometry(ends))


def test_a_large_heat_map_lists_the_extremes_of_each_row():
    text = words(large_page())
    assert "Row Diagonal Lowest at Highest at" in text
    assert "leaf 3 0.200 0.200 leaf 3" in text
    empty = HeatMap(title="Nothing", rows=["a"], columns=["b"], values=[[math.nan]])
    assert "Nothing" not in words(render_geometry(bare().model_copy(update={"heat_maps": [empty]})))


def test_the_examined_step_joins_the_earlier_ones():
    made = geometric(snapshots=geometric().snapshots[:2])
    last = snapshots_of(made)[-1]
    assert [one.step for one in snapshots_of(made)] == [0, 100, 1000]
    assert last.metrics["smoothness"] == 0.812
    assert last.kind == "geometric"
    assert snapshots_of(geometric(snapshots=[])) == []
    assert [one.step for one in snapshots_of(made.model_copy(update={"step": None}))] == [0, 100]


def test_every_measure_has_a_heading_and_a_meaning_in_each_of_its_forms():
    for name in GEOMETRY_METRICS:
        assert metric_name(name) != name
        assert metric_meaning(name).endswith((".", "?")), name
    assert metric_name("first_hop_auc_held_out") == "First hop, AUC, held-out paths"
    assert metric_name("centred_zigzag") == "Zigzag index, centred"
    assert metric_meaning("centred_zigzag").endswith("Here of embeddings less their mean.")
    assert (metric_name("later"), metric_meaning("later")) == ("later", "")


def test_a_scene_refuses_what_does_not_fit():
    frame = Frame(label="", points=[(0, 0, 0), (1, 1, 1)])
    good = {"name": "s", "frames": [frame], "edges": [(0, 1)], "groups": [-1, -1], "names": ["a", "b"]}
    Scene(**good)
    for change, message in (
        ({"frames": []}, "at least one frame"),
        ({"names": ["a"]}, "3 coordinates for each of 1 names"),
        ({"groups": [0, 0]}, "needs a group of -1 ... -1"),
        ({"edges": [(0, 2)]}, "edges must join two of 2 points"),
    ):
        with pytest.raises(ValueError, match=message):
            Scene(**(good | change))


def test_no_picture_no_figure():
    assert turning(bare(), "key") is None


def test_the_same_examination_gives_the_same_bytes_and_one_file(tmp_path):
    path = write_geometry(geometric(), tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == page()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_reporting_needs_no_torch():
    code = "import sys, mnemoscope.reporting.geometry; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
