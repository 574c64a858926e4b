"""What TensorBoard, trackio and Weights & Biases hold of a run that was sent, resumed and examined."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnemoscope.runs import RunDirectory
from mnemoscope.training.loggers import TensorBoard, Trackio, Wandb, send_run
from tests.unit.training.loggers.logged import append, events, examine, wandb_records, written_run


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, no account, and nothing outside the test's folder."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def wandb_offline(offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its other process is ended after the test."""
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb_config"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb_cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb_data"))
    yield
    import wandb

    wandb.teardown()


@pytest.fixture
def database(offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """trackio reads its folder when it is imported."""
    import trackio
    from trackio import fragments, sqlite_storage, utils

    for module in (trackio, fragments, sqlite_storage, utils):
        if "TRACKIO_DIR" in vars(module):
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    return tmp_path / "trackio"


def verdict_of(run: RunDirectory) -> tuple[str, str]:
    site = run.read_examination().sites[0]
    assert site.verdict is not None
    return f"examination/{site.name}/verdict", site.verdict


def test_tensorboard_holds_rows_settings_and_verdicts(tmp_path: Path) -> None:
    run = written_run(tmp_path / "run")
    assert send_run(run.path, [TensorBoard()]) == 0
    append(run, 3, range(4, 6))
    examine(run)
    assert send_run(run.path, [TensorBoard()]) == 0
    shown = events(run.path / "tensorboard")
    assert [(event.step, event.value) for event in shown.Scalars("loss")] == [
        (step, pytest.approx(1 / step)) for step in range(1, 6)
    ]
    assert [event.value for event in shown.Scalars("seconds")] == [1, 2, 3, 4, 5]
    name, verdict = verdict_of(run)
    assert shown.Tensors(f"{name}/text_summary")[-1].tensor_proto.string_val == [verdict.encode()]
    settings = shown.Tensors("config/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert "| model.blocks.0.kind | delta |" in settings
    assert shown.PluginTagToContent("hparams")


def test_event_files_of_another_run_are_not_written_to(tmp_path: Path) -> None:
    said: list[str] = []
    for place in ("one", "two"):
        written_run(tmp_path / place / "run")
        send_run(tmp_path / place / "run", [TensorBoard(folder=str(tmp_path / "shown"))], said.append)
    assert len(said) == 1
    assert f"{tmp_path / 'shown' / 'run'} holds event files of another run" in said[0]


def test_trackio_holds_rows_settings_and_verdicts(tmp_path: Path, database: Path) -> None:
    from trackio.sqlite_storage import SQLiteStorage

    run, said = written_run(tmp_path / "run"), list[str]()
    send_run(run.path, [Trackio(project="tests")], said.append)
    append(run, 3, range(4, 6))
    examine(run)
    (run.path / "loggers.json").write_text(
        (run.path / "loggers.json").read_text(encoding="utf-8").replace('"step": 3', '"step": 0'), encoding="utf-8"
    )
    send_run(run.path, [Trackio(project="tests")], said.append)
    assert said == []
    (record,) = SQLiteStorage.get_run_records("tests")
    rows = SQLiteStorage.get_logs("tests", record["name"], run_id=record["id"])
    assert [(row["step"], row["loss"]) for row in rows if "loss" in row] == [(s, 1 / s) for s in range(1, 6)]
    name, verdict = verdict_of(run)
    assert [row[name] for row in rows if name in row] == [verdict]
    config = SQLiteStorage.get_run_config("tests", record["name"], run_id=record["id"])
    assert config is not None
    assert (config["model.blocks.0.kind"], config["manifest.seeds.train"]) == ("delta", 3)


def test_wandb_holds_rows_settings_and_verdicts_offline(tmp_path: Path, wandb_offline: None) -> None:
    run, said = written_run(tmp_path / "run"), list[str]()
    send_run(run.path, [Wandb(project="tests")], said.append)
    append(run, 3, range(4, 6))
    examine(run)
    send_run(run.path, [Wandb(project="tests")], said.append)
    assert said == []
    files = sorted(run.path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime_ns)
    first, second = ([*map(as_told, wandb_records(file))] for file in files)
    history = [told for kind, told in first + second if kind == "history"]
    assert [(told["_step"], told["loss"]) for told in history] == [(s, pytest.approx(1 / s)) for s in range(1, 6)]
    ids = {told["id"] for kind, told in first + second if kind == "run"}
    assert ids == {json.loads((run.path / "loggers.json").read_text(encoding="utf-8"))["id"]}
    name, verdict = verdict_of(run)
    assert verdict in [told.get(name) for kind, told in second if kind == "summary"]
    assert "finished" in [told.get("exit_state") for kind, told in first if kind == "summary"]
    assert "delta" in [told.get("model.blocks.0.kind") for kind, told in first if kind == "config"]


def as_told(record: "object") -> tuple[str, dict[str, object]]:
    kind = record.WhichOneof("record_type")  # pyright: ignore[reportAttributeAccessIssue]
    told = getattr(record, kind or "uuid")
    if kind == "run":
        return kind, {"id": told.run_id}
    items = told.item if kind == "history" else told.update if kind in ("summary", "config") else []
    return str(kind), {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_an_account_that_is_not_logged_in_is_refused_without_a_question(wandb_offline: None) -> None:
    with pytest.raises(ValueError, match="none is logged in: run `wandb login`, set WANDB_API_KEY"):
        Wandb(mode="online").check()
