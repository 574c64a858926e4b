"""Runs of an earlier schema load, report, compare and resume; an upgrade rewrites records and keeps originals."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mnemoscope.examination import Budget
from mnemoscope.experiments.comparing import compare, examination_of
from mnemoscope.experiments.recipes import find_recipe
from mnemoscope.experiments.reports import report_runs
from mnemoscope.experiments.upgrading import KINDS, outdated, upgrade
from mnemoscope.models import build
from mnemoscope.runs import SCHEMA_VERSION, read_record
from mnemoscope.training import load_recipe, load_run
from mnemoscope.training.checkpoint import load_checkpoint, restore
from mnemoscope.training.optimiser import build_optimiser

OLD = Path(__file__).parents[2] / "golden" / "schema_1"
RUNS = ("first", "second")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def test_an_old_checkpoint_computes_what_it_did():
    run = load_run(OLD / "first")
    tokens = (torch.arange(24).reshape(2, 12) * 7) % 16
    with torch.no_grad():
        said = run.model.eval()(tokens)[0, -1]
    torch.testing.assert_close(said, torch.tensor(json.loads((OLD / "first" / "logits.json").read_text())))


def test_an_old_optimiser_goes_on():
    recipe = load_recipe(OLD / "first")
    model = build(recipe.model, seed=1)
    optimiser = build_optimiser(model, recipe.train, ())
    checkpoint = load_checkpoint(OLD / "first" / "checkpoints")
    assert checkpoint is not None
    restore(checkpoint, model, optimiser, torch.device("cpu"))
    gate = model.get_parameter("blocks.0.mixer.fusion.mix.weight")
    assert torch.equal(gate, checkpoint.model["blocks.0.mixer.fusion.mix.weight"])
    assert optimiser.state[gate]["exp_avg"].shape == gate.shape


def test_an_old_configuration_is_a_recipe():
    assert find_recipe(str(OLD / "first" / "config.json")) == load_recipe(OLD / "first")


def test_old_examinations_are_reported_and_compared(tmp_path: Path):
    page = report_runs([OLD / name for name in RUNS], tmp_path / "page.html")
    assert page.read_text(encoding="utf-8").count("tiny") > 1
    first, second = (examination_of(OLD / name, Budget()) for name in RUNS)
    assert compare(first, second).changes


def test_an_old_geometry_is_reported(tmp_path: Path):
    assert report_runs([OLD / "geometry"], tmp_path / "page.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["trial/trial.json", "reproduction/reproduction.json", "reproduction/seed-0.json"])
def test_other_records_are_read(name: str):
    kind = KINDS[Path(name).name.replace("seed-0", "seed-*")]
    assert read_record(OLD / name, kind).model_dump()["schema_version"] == SCHEMA_VERSION


def test_looking_writes_nothing_and_says_what_would_change(old: Path):
    before = _contents(old)
    found = {str(one.path.relative_to(old)): one for one in outdated(old)}
    assert _contents(old) == before
    assert len(found) == 10
    assert "- resolved.model.mixers.1.rotary = False" in found["first/config.json"].changes
    assert "+ resolved.model.mixers.1.positions = 'none'" in found["first/config.json"].changes
    assert found["first/verdicts.json"].changes == ()


def test_an_upgrade_keeps_originals_and_is_done_once(old: Path):
    before = {one.path: one.path.read_bytes() for one in outdated(old)}
    records = {path: read_record(path, _kind(path)) for path in before}
    for one in outdated(old):
        upgrade(one)
        assert one.backup.read_bytes() == before[one.path]
        assert json.loads(one.path.read_text())["schema_version"] == SCHEMA_VERSION
        assert read_record(one.path, _kind(one.path)).model_dump_json() == records[one.path].model_dump_json()
    assert outdated(old) == []
    assert load_run(old / "first").step == 4


def test_another_original_is_not_overwritten(old: Path):
    one = outdated(old)[0]
    one.backup.write_text("mine")
    with pytest.raises(ValueError, match="holds another original"):
        upgrade(one)
    assert one.backup.read_text() == "mine"
    assert json.loads(one.path.read_text())["schema_version"] == 1


def test_mistakes_are_told(old: Path):
    with pytest.raises(ValueError, match="there is no folder"):
        outdated(old / "absent")
    (old / "first" / "config.json").write_text('{"schema_version": 99}')
    with pytest.raises(ValueError, match="written with schema version 99"):
        outdated(old)


def test_configurations_of_other_programs_are_left_alone(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert outdated(tmp_path) == []


def _kind(path: Path):
    return KINDS["seed-*.json" if path.name.startswith("seed-") else path.name]


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
