"""The index: what is found, what is kept, and what a hostile folder can make of it."""

import json
import os
from pathlib import Path

import pytest

from mnemoscope.browser import index as index_module
from mnemoscope.browser.entries import SILENT_SECONDS
from mnemoscope.browser.index import Index
from mnemoscope.browser.summarising import WHOLE_BYTES
from tests.unit.browser.folders import a_folder, a_run, falling, log, spoiled


@pytest.fixture(autouse=True)
def _look_every_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index_module, "RESCAN_SECONDS", 0.0)


def test_everything_with_a_record_is_found(tmp_path: Path):
    entries = Index(a_folder(tmp_path)).entries()
    assert set(entries) == {
        ("run", "recall/before"),
        ("run", "recall/after"),
        ("trial", "trial"),
        ("geometry", "recall/before/nodes"),
    }
    before = entries["run", "recall/before"]
    assert (before.title, before.state, before.step, before.steps, before.report) == (
        "Recall, before",
        "finished",
        20,
        100,
        True,
    )
    assert before.loss == pytest.approx(3 / 20)
    assert before.badges[0][0] == "decorative"
    assert before.spark[0] == (1.0, 3.0)


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    index = Index(a_folder(tmp_path))
    first, version, read = dict(index.entries()), index.version, []
    real = index_module.summarised
    monkeypatch.setattr(
        index_module, "summarised", lambda kind, name, *rest: read.append(name) or real(kind, name, *rest)
    )
    assert index.entries() == first
    assert (index.version, read) == (version, [])
    log(index_module_run(tmp_path, "recall/after"), falling(3, first=6), after_step=5)
    assert index.entries()["run", "recall/after"].step == 8
    assert (index.version, read) == (version + 1, ["recall/after"])


def index_module_run(root: Path, name: str):
    from mnemoscope.runs import RunDirectory

    return RunDirectory(root / name)


def test_the_folder_itself_can_be_a_run(tmp_path: Path):
    root = tmp_path / "one"
    a_run(root)
    a_run(root / "one")
    assert {name for _, name in Index(root).entries()} == {"one", "one (this folder)"}


def test_a_long_stream_is_sketched_from_first_to_last(tmp_path: Path):
    run = a_run(tmp_path / "long", falling(4000))
    assert run.metrics_path.stat().st_size > 10 * WHOLE_BYTES
    entry = Index(tmp_path).entries()["run", "long"]
    assert (entry.spark[0], entry.step) == ((1.0, 3.0), 4000)
    assert 20 <= len(entry.spark) <= 60
    assert [step for step, _ in entry.spark] == sorted(step for step, _ in entry.spark)


def test_a_run_that_writes_no_more_is_silent(tmp_path: Path):
    a_run(tmp_path / "killed", falling(3), state="running")
    entry = Index(tmp_path).entries()["run", "killed"]
    assert entry.at(entry.changed + SILENT_SECONDS - 1).state == "running"
    assert entry.at(entry.changed + SILENT_SECONDS + 1).state == "silent"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("manifest.json", "[" * 100_000),
        ("manifest.json", '{"exit_state": "<script>"}'),
        ("manifest.json", "null"),
        ("config.json", '{"resolved": ' + "[" * 100_000),
        ("config.json", "\x00\xff"),
        ("verdicts.json", "{"),
        ("config.json", '{"a": ' + "1" * 10_000),
    ],
)
def test_damaged_records_are_listed_as_damaged(tmp_path: Path, name: str, text: str):
    spoiled(a_run(tmp_path / "bad", examination=None), name, text)
    a_run(tmp_path / "good")
    entries = Index(tmp_path).entries()
    assert entries["run", "bad"].state == "damaged"
    assert entries["run", "bad"].about
    assert entries["run", "good"].state == "finished"


@pytest.mark.parametrize(
    "changes",
    [
        {"resolved": {"name": ["a"], "train": []}},
        {"resolved": []},
        {"resolved": {"train": {"steps": "many"}}},
        {"resolved": {"name": "x" * 100_000}},
    ],
)
def test_odd_settings_still_make_a_line(tmp_path: Path, changes: dict):
    spoiled(a_run(tmp_path / "odd"), "config.json", {"schema_version": 2, "passed": {}, **changes})
    entry = Index(tmp_path).entries()["run", "odd"]
    assert entry.state == "finished"
    assert entry.steps is None
    assert len(entry.title) < 400


def test_links_and_pipes_are_not_followed(tmp_path: Path):
    outside = tmp_path / "outside"
    a_run(outside / "secret", falling(2))
    root = tmp_path / "root"
    run = a_run(root / "run")
    (root / "linked").symlink_to(outside)
    run.metrics_path.unlink()
    run.metrics_path.symlink_to(outside / "secret" / "metrics.jsonl")
    os.mkfifo(run.verdicts_path)
    (run.path / "report.html").symlink_to("/etc/passwd")
    entries = Index(root).entries()
    assert set(entries) == {("run", "run")}
    entry = entries["run", "run"]
    assert (entry.spark, entry.badges, entry.report, entry.state) == ((), (), False, "finished")


def test_hostile_rows_make_no_curve(tmp_path: Path):
    run = a_run(tmp_path / "rows")
    lines = [
        '{"step": 1, "loss": ' + "9" * 400 + "}",
        '{"step": true, "loss": 1}',
        '{"step": 1e400, "loss": []}',
        "[[[",
    ]
    run.metrics_path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    entry = Index(tmp_path).entries()["run", "rows"]
    assert entry.state == "finished"
    assert json.dumps(entry.spark)


def test_no_folder_is_said(tmp_path: Path):
    with pytest.raises(ValueError, match="there is no such folder"):
        Index(tmp_path / "nowhere")
