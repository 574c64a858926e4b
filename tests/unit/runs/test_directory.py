import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mnemoscope.runs import SCHEMA_VERSION, Estimate, Examination, Manifest, RunDirectory, find_runs, git_revision


def a_manifest() -> Manifest:
    return Manifest(
        kind="training",
        command=["mnemoscope", "train"],
        revision=None,
        versions={"python": "3.13"},
        device="cpu",
        threads=1,
        seeds={"train": 0},
        data={"task": "copy", "lengths": [8, 16]},
        started=datetime(2026, 1, 1, tzinfo=UTC),
    )


def a_run(path: Path) -> RunDirectory:
    run = RunDirectory.create(path)
    run.write_config({"steps": 3}, {"steps": 3, "seed": 0})
    run.write_manifest(a_manifest())
    return run


def test_what_is_written_is_read(tmp_path: Path):
    a_run(tmp_path / "deep" / "run")
    run = RunDirectory.open(tmp_path / "deep" / "run")
    assert run.read_config().passed == {"steps": 3}
    assert run.read_config().resolved == {"steps": 3, "seed": 0}
    assert run.read_manifest() == a_manifest()


def test_a_manifest_tells_how_it_ended_and_what_it_resumed(tmp_path: Path):
    run = a_run(tmp_path / "run")
    first = run.read_manifest()
    second = a_manifest().resuming(first)
    third = a_manifest().resuming(second).ending("failed", "why")
    run.write_manifest(third)
    read = run.read_manifest()
    assert (read.exit_state, read.message) == ("failed", "why")
    assert read.ended is not None
    assert read.ended.tzinfo is not None
    assert [manifest.exit_state for manifest in read.earlier] == ["running", "running"]
    assert all(manifest.earlier == [] for manifest in read.earlier)


def test_an_examination_with_numbers_that_are_not_finite_comes_back(tmp_path: Path):
    run = a_run(tmp_path / "run")
    some = Estimate(value=math.inf, low=-math.inf, high=1.5)
    written = Examination(
        subject="model",
        n_calibration=1,
        n_test=1,
        seed=0,
        local_window=4,
        base_loss=some,
        constant_output_loss=None,
        memories_off=some,
        routes_off=None,
        headroom=some,
        memories_share=some,
        margin=0.01,
        sites=[],
        routes=[],
        routes_known=False,
        base=None,
        prescriptions=[],
        replay="full",
        seconds={"total": 0.5},
        versions={},
    )
    run.write_examination(written)
    assert run.read_examination() == written


def test_create_refuses_what_is_not_its_own(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    RunDirectory.create(tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="needs a folder, and this is a file"):
        RunDirectory.create(tmp_path / "file")
    (tmp_path / "full").mkdir()
    for name in "abcde":
        (tmp_path / "full" / name).touch()
    with pytest.raises(ValueError, match="holds a, b, c and 2 more; choose another folder"):
        RunDirectory.create(tmp_path / "full")
    a_run(tmp_path / "run")
    with pytest.raises(ValueError, match="holds a run already; resume it, or choose another folder"):
        RunDirectory.create(tmp_path / "run")


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_open_names_what_is_missing(tmp_path: Path, name: str):
    run = a_run(tmp_path / "run")
    (run.path / name).unlink()
    with pytest.raises(ValueError, match=f"not the folder of a run: {name} missing; give a folder that holds"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_open_refuses_a_later_schema(tmp_path: Path, name: str):
    run = a_run(tmp_path / "run")
    later = json.loads((run.path / name).read_text()) | {"schema_version": 99, "unheard": "of"}
    (run.path / name).write_text(json.dumps(later))
    with pytest.raises(
        ValueError, match=rf"{name}: written with schema version 99, but .* up to {SCHEMA_VERSION}; upgrade"
    ):
        RunDirectory.open(run.path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b'{"schema_version": 1,\n "passed": oops}', "not JSON: Expecting value at line 2, column 12"),
        (b"[1, 2]", "a JSON object was required, got list"),
        (b"\xff", "not UTF-8 text"),
        (b"{}", "schema_version must be an integer of at least 1, got None"),
        (b'{"schema_version": 2, "passed": {}}', "not a valid RunConfig: resolved: field required"),
        (
            b'{"schema_version": 1, "passed": {}, "resolved": 3, "extra": 1}',
            "resolved: input should be an object, got 3; extra: extra inputs are not permitted, got 1",
        ),
    ],
)
def test_a_spoiled_file_is_named_with_what_is_wrong(tmp_path: Path, text: bytes, problem: str):
    run = a_run(tmp_path / "run")
    run.config_path.write_bytes(text)
    with pytest.raises(ValueError, match=rf"config\.json: .*{problem}.*; restore the file from a copy"):
        run.read_config()


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"verdicts\.json: the file is missing"):
        RunDirectory(tmp_path).read_examination()


def test_runs_are_found_wherever_they_are(tmp_path: Path):
    for name in ("b", "a/seed-0", "a/seed-1", ".hidden/run", "b/checkpoints/step-1"):
        if name.endswith("step-1"):
            (tmp_path / name).mkdir(parents=True)
            (tmp_path / name / "config.json").touch()
        else:
            a_run(tmp_path / name)
    assert [run.path.relative_to(tmp_path).as_posix() for run in find_runs(tmp_path)] == [
        "a/seed-0",
        "a/seed-1",
        "b",
    ]
    assert [run.path for run in find_runs(tmp_path / "b")] == [tmp_path / "b"]
    with pytest.raises(ValueError, match="there is no such folder"):
        find_runs(tmp_path / "absent")


def test_metrics_and_timings_are_streams_of_the_same_form(tmp_path: Path):
    run = a_run(tmp_path / "run")
    for writer in (run.append_metrics(0), run.append_timings(0)):
        writer.write(1, {"x": 2.0})
        writer.close()
    assert run.read_metrics() == run.read_timings() == [{"step": 1, "x": 2.0}]
    assert run.checkpoints_path == run.path / "checkpoints"


def test_the_revision_is_the_commit_of_the_folder(tmp_path: Path):
    assert git_revision(tmp_path) is None
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    assert git_revision(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "file").write_text("two")
    assert git_revision(tmp_path) == git("rev-parse", "HEAD") + "+changes"


def test_runs_are_readable_without_torch():
    code = "import sys; import mnemoscope.runs; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
