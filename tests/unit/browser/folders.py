"""Folders of runs for the browser's tests."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from starlette.testclient import TestClient

from mnemoscope.browser.guarding import Access
from mnemoscope.browser.index import Index
from mnemoscope.browser.server import application
from mnemoscope.runs import Examination, ExitState, Manifest, RunDirectory, write_record
from tests.unit.reporting import samples
from tests.unit.reporting.geometry_samples import geometric
from tests.unit.reporting.trial_samples import trial

NAMES = Access(names=("testserver",))


def a_run(
    path: Path,
    rows: Sequence[Mapping[str, float]] = (),
    *,
    title: str = "A run",
    state: ExitState = "finished",
    examination: Examination | None = None,
    started: datetime = datetime(2026, 11, 1, tzinfo=UTC),
    steps: int = 100,
) -> RunDirectory:
    run = RunDirectory.create(path)
    settings = {"name": title, "train": {"steps": steps, "learning_rate": 0.001}}
    run.write_config({}, settings)
    manifest = Manifest(
        kind="training",
        command=["mnemoscope", "train"],
        revision=None,
        versions={},
        device="cpu",
        threads=1,
        seeds={},
        data={},
        started=started,
        exit_state=state,
    )
    run.write_manifest(manifest)
    log(run, rows)
    if examination is not None:
        run.write_examination(examination)
    return run


def log(run: RunDirectory, rows: Sequence[Mapping[str, float]], after_step: int = 0) -> None:
    writer = run.append_metrics(after_step)
    for row in rows:
        writer.write(int(row["step"]), {name: value for name, value in row.items() if name != "step"})
    writer.close()


def falling(n: int, first: int = 1) -> list[dict[str, float]]:
    return [
        {"step": step, "loss": 3.0 / step, "raw_gate.mean.blocks.0": 0.5, "raw_gate.mean.blocks.1": 0.25}
        for step in range(first, first + n)
    ]


def a_folder(root: Path) -> Path:
    """A run that is examined, one that trains, a trial, an examination of embeddings, and a stored page."""
    examined = samples.before().examination
    a_run(root / "recall" / "before", falling(20), title="Recall, before", examination=examined)
    started = datetime(2026, 11, 2, tzinfo=UTC)
    a_run(root / "recall" / "after", falling(5), title="Recall, after", state="running", started=started)
    (root / "trial").mkdir()
    write_record(root / "trial" / "trial.json", trial("dropout"))
    (root / "recall" / "before" / "nodes").mkdir()
    write_record(root / "recall" / "before" / "nodes" / "geometry.json", geometric())
    (root / "recall" / "before" / "report.html").write_text("<script>fetch('/')</script>stored", encoding="utf-8")
    return root


def client(root: Path, access: Access = NAMES, **options: object) -> TestClient:
    return TestClient(application(Index(root), access), follow_redirects=False, **options)


def spoiled(run: RunDirectory, name: str, value: object) -> None:
    """Other JSON in a file of a run."""
    text = value if isinstance(value, str) else json.dumps(value)
    (run.path / name).write_text(text, encoding="utf-8")
