"""Pages and JSON of a folder, asked for as a browser asks."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from mnemoscope.browser import index as index_module
from mnemoscope.runs import RunDirectory, write_record
from mnemoscope.runs.trace import TRACE, Trace
from tests.unit.browser.folders import a_folder, a_run, client, falling, log, spoiled
from tests.unit.reporting import samples, trace_samples
from tests.unit.reporting.samples import HOSTILE


@pytest.fixture(autouse=True)
def _look_every_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "RESCAN_SECONDS", 0.0)


def test_the_list_shows_states_losses_and_verdicts(tmp_path: Path):
    text = client(a_folder(tmp_path)).get("/").text
    assert text.index("/runs/recall/after") < text.index("/runs/recall/before")  # the youngest first
    assert 'aria-label="loss from 3 to 0.15, least 0.15"' in text
    assert "decorative</span>" in text
    assert re.search(r"running</span>", text)


def test_filters_and_order_stand_in_the_address(tmp_path: Path):
    site = client(a_folder(tmp_path))

    def names(query: str) -> list[str]:
        return [entry["name"] for entry in site.get(f"/api/runs?{query}").json()["entries"]]

    assert names("sort=name") == ["recall/after", "recall/before"]
    assert names("sort=name&order=desc") == ["recall/before", "recall/after"]
    assert names("sort=loss") == ["recall/before", "recall/after"]
    assert names("q=BEFORE") == ["recall/before"]
    assert names("state=running") == ["recall/after"]
    assert names("verdict=decorative") == ["recall/before"]
    assert names("kind=trial") == ["trial"]
    assert names("rows=1&page=2") == ["recall/before"]
    assert len(names("sort=nonsense&page=-1&rows=x&kind=y&state=z")) == 2
    page = site.get("/?q=before&sort=loss").text
    assert 'value="before"' in page
    assert "q=before" in re.findall(r'data-live="([^"]*)"', page)[0]


def test_a_run_shows_curves_verdicts_and_the_way_to_stored_pages(tmp_path: Path):
    text = client(a_folder(tmp_path)).get("/runs/recall/before").text
    assert text.count('<svg class="curve"') == 2
    assert "Gates and memory" in text
    assert "/runs/recall/before/files/report.html" in text
    assert 'class="verdict-table' in text
    assert '<figure class="turning"' in text
    assert "loss: 3 at step 1, 0.15 at step 20, least 0.15 at step 20." in text


def test_figures_of_the_examination_come_apart_or_with_the_page(tmp_path: Path):
    site = client(a_folder(tmp_path))
    assert "How far back the memory is used" not in site.get("/runs/recall/before").text
    assert "How far back the memory is used" in site.get("/runs/recall/before/figures").text
    assert "How far back the memory is used" in site.get("/runs/recall/before?drawn").text


def test_what_grows_is_sent_once(tmp_path: Path):
    site = client(a_folder(tmp_path))
    first = site.get("/runs/recall/after/growing")
    assert "step 5" in first.text
    again = {"if-none-match": first.headers["etag"]}
    assert site.get("/runs/recall/after/growing", headers=again).status_code == 304
    log(RunDirectory(tmp_path / "recall" / "after"), falling(2, first=6), after_step=5)
    grown = site.get("/runs/recall/after/growing", headers=again)
    assert grown.status_code == 200
    assert "step 7" in grown.text


def test_views_of_curves_stand_in_the_address(tmp_path: Path):
    site = client(a_folder(tmp_path))
    filtered = site.get("/runs/recall/before/growing?figures=gate+blocks.1&y=log&from=3&to=9").text
    assert filtered.count('<svg class="curve"') == 1
    assert "0.25 at step 3, 0.25 at step 9" in filtered
    assert "blocks.0" not in filtered
    whole = site.get("/runs/recall/before?figures=gate&y=log").text
    assert "/runs/recall/before/growing?figures=gate&amp;y=log" in whole
    assert site.get("/runs/recall/before/growing?from=x&to=nan&figures=%00&y=").status_code == 200


def test_a_comparison_has_a_line_for_each_run(tmp_path: Path):
    site = client(a_folder(tmp_path))
    address = "/compare?run=recall/before&run=recall/after&run=nowhere"
    text = site.get(address).text
    assert text.count('data-line="1"') == 1
    assert "Verdicts side by side" in text
    assert "Recall, after" in text  # a setting that differs
    assert site.get(f"{address}&part=growing").text.count('<svg class="curve"') == 1
    assert "at least two runs" in site.get("/compare").text


def test_trials_and_examinations_of_embeddings_have_pages(tmp_path: Path):
    site = client(a_folder(tmp_path))
    assert "Compared with" in site.get("/trials/trial").text
    nodes = site.get("/geometry/recall/before/nodes").text
    assert '<figure class="turning"' in nodes
    assert nodes.count("<script") == 3  # two of our files, one of data
    assert "<style" not in nodes


def test_a_reproduction_leads_to_what_it_examined(tmp_path: Path):
    golden = Path(__file__).parents[2] / "golden" / "schema_1" / "reproduction" / "reproduction.json"
    record = json.loads(golden.read_text(encoding="utf-8")) | {"pages": ["geometry-0.html", "javascript:alert(1)"]}
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "reproduction.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "one" / "geometry-0.html").write_text("examined", encoding="utf-8")
    site = client(tmp_path)
    text = site.get("/reproductions/one").text
    assert 'href="/reproductions/one/files/geometry-0.html"' in text
    assert 'href="javascript' not in text
    assert site.get("/reproductions/one/files/geometry-0.html").text == "examined"


@pytest.mark.parametrize("traced", [trace_samples.text, trace_samples.hostile])
def test_a_trace_colours_the_text_and_is_linked_from_its_run(tmp_path: Path, traced: Callable[[], Trace]):
    root = a_folder(tmp_path)
    assert 'href="/runs/recall/before/trace"' not in client(root).get("/runs/recall/before").text
    write_record(root / "recall" / "before" / TRACE, traced())
    browser = client(root)
    assert 'href="/runs/recall/before/trace"' in browser.get("/runs/recall/before").text
    page = browser.get("/runs/recall/before/trace")
    assert page.status_code == 200
    assert "Without" in page.text
    assert "alert(1)" not in page.text.replace("&gt;alert(1)&lt;", "")
    (root / "recall" / "before" / TRACE).write_text("{}", encoding="utf-8")
    damaged = browser.get("/runs/recall/before/trace", headers={"if-none-match": page.headers["etag"]})
    assert damaged.status_code == 422
    assert "schema_version must be" in damaged.text


def test_stored_pages_get_no_script_of_their_own_and_no_network(tmp_path: Path):
    answer = client(a_folder(tmp_path)).get("/runs/recall/before/files/report.html")
    assert answer.text.endswith("stored")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    assert "allow-same-origin" not in policy
    assert re.search(r"script-src 'sha256-[^' ]+'$", policy)


@pytest.mark.parametrize(
    "path",
    [
        "/runs/../../etc/passwd",
        "/runs/%2e%2e/%2e%2e/etc/passwd",
        "/runs/recall/before/files/../config.json",
        "/runs/recall/before/files/%2e%2e%2f%2e%2e%2fsecret.html",
        "/runs/recall/before/files/..%5c..%5csecret.html",
        "/runs/recall/before/files/config.json",
        "/runs/recall/before/files//etc/passwd",
        "/runs/recall/before/files/",
        "/runs/recall/before/files/linked.html",
        "/runs/recall/before%00",
        "/runs//etc",
        "/static/..%2fserver.py",
        "/static/%2e%2e/server.py",
        "/api/runs/../../etc/passwd",
        "/api/nothing/recall/before",
        "/runs/recall/before/nothing",
        "/runs/recall/before/trace",
        "/trials/trial/growing",
    ],
)
def test_nothing_beside_the_entries_can_be_asked_for(tmp_path: Path, path: str):
    root = a_folder(tmp_path / "root")
    (tmp_path / "secret.html").write_text("secret", encoding="utf-8")
    (root / "recall" / "before" / "linked.html").symlink_to(tmp_path / "secret.html")
    answer = client(root).get(path)
    assert answer.status_code == 404
    assert "secret" not in answer.text.replace("secret.html", "")
    assert "root:" not in answer.text


NAMES = [
    "a<b>&amp;",
    "50% #1 ?x=y",
    "hidden..",
    "é \u202e gnp.exe",
    "trace",
    "quote\"'",
    "new\nline",
    "{{ 7*7 }}",
    "-rf *",
]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names_are_names(tmp_path: Path, name: str):
    a_run(tmp_path / name / "inner", falling(3), title=HOSTILE)
    site = client(tmp_path)
    listed = site.get("/").text
    address = re.findall(r'href="(/runs/[^"]*)"', listed)[0]
    assert address == f"/runs/{quote(name)}/inner"
    page = site.get(address)
    assert page.status_code == 200
    for text in (listed, page.text):
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "<b>" not in text
    assert site.get(f"/api{address}").json()["name"] == f"{name}/inner"
    assert site.get(f"{address}/metrics.csv").status_code == 200


@pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX alone")
def test_a_name_that_is_no_text_has_a_page(tmp_path: Path):
    folder = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff\xfe")
    a_run(Path(folder), falling(2))
    site = client(tmp_path)
    address = re.findall(r'href="(/runs/[^"]*)"', site.get("/").text)[0]
    assert address == "/runs/%FF%FE"
    assert site.get(address).status_code == 200
    assert site.get(f"/api{address}").status_code == 200


def test_hostile_records_are_shown_as_text(tmp_path: Path):
    run = a_run(tmp_path / "bad", title=HOSTILE, examination=samples.hostile().examination)
    rows = [
        {"step": 1, HOSTILE: 1.0, "=cmd()": 2.0, f"gate.{HOSTILE}": 1.0},
        {"step": 2, HOSTILE: float("nan"), "loss": float("inf")},
    ]
    log(run, rows)
    site = client(tmp_path)
    for path in ("/runs/bad", "/runs/bad?drawn", "/runs/bad/growing", "/", "/compare?run=bad&run=bad&figures=block"):
        text = site.get(path).text
        assert "<script>alert" not in text, path
        assert "<img src=x" not in text, path
    numbers = site.get("/runs/bad/metrics.csv").text
    assert ",'=cmd()" in numbers
    figures = site.get("/api/runs/bad/metrics").json()["figures"]
    assert figures["loss"]["values"] == [None]


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "verdicts.json"])
@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"schema_version": 999}', "7", '{"schema_version": 2}'])
def test_a_damaged_record_is_said_on_the_page(tmp_path: Path, name: str, text: str):
    run = a_run(tmp_path / "bad", falling(3), examination=samples.before().examination)
    spoiled(run, name, text)
    site = client(tmp_path)
    answer = site.get("/runs/bad")
    assert answer.status_code in (200, 422)
    assert name in answer.text
    assert site.get("/").status_code == site.get("/api/runs/bad").status_code == 200
    assert site.get("/compare?run=bad").status_code == 200


@pytest.mark.parametrize(
    ("kind", "room"), [("trial", "trials"), ("reproduction", "reproductions"), ("geometry", "geometry")]
)
def test_a_damaged_stored_record_is_said_on_its_page(tmp_path: Path, kind: str, room: str):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / f"{kind}.json").write_text(
        '{"schema_version": 2, "name": "<script>alert(1)</script>"}', encoding="utf-8"
    )
    answer = client(tmp_path).get(f"/{room}/bad")
    assert answer.status_code == 422
    assert "<script>alert" not in answer.text


def test_the_json_of_metrics_is_thinned(tmp_path: Path):
    a_run(tmp_path / "long", falling(3000))
    site = client(tmp_path)
    loss = site.get("/api/runs/long/metrics?figure=loss&points=50").json()["figures"]
    assert list(loss) == ["loss"]
    assert loss["loss"]["n"] == 3000
    assert len(loss["loss"]["steps"]) <= 54
    assert (loss["loss"]["values"][0], loss["loss"]["steps"][-1]) == (3.0, 3000)
    rows = site.get("/runs/long/metrics.csv?figure=loss").text.splitlines()
    assert (rows[0], rows[1], len(rows)) == ("step,loss", "1,3.0", 3001)


def test_speed_can_be_taken_away_like_every_curve(tmp_path: Path):
    run = a_run(tmp_path / "timed", falling(2))
    writer = run.append_timings(0)
    writer.write(2, {"seconds": 60.0, "tokens_per_second": 66_560.0})
    writer.close()
    site = client(tmp_path)
    text = site.get("/runs/timed").text
    assert "66,560" in text
    assert "1 minutes" in text
    address = re.findall(r'href="([^"]*figure=tokens_per_second)"', text)[0]
    assert site.get(address).text.splitlines() == ["step,tokens_per_second", "2,66560.0"]


def test_mistakes_have_pages_and_json(tmp_path: Path):
    site = client(tmp_path)
    assert "nothing at this address" in site.get("/nothing").text
    assert site.get("/api/runs/nothing").json() == {"error": "There is no run of that name here."}
    assert "none in this folder yet" in site.get("/").text


def test_the_browser_needs_no_torch():
    code = (
        "import sys, mnemoscope.browser.server\n"
        "heavy = {'torch', 'transformers', 'mnemoscope.training', 'mnemoscope.experiments'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
