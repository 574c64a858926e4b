"""Files of earlier schema versions are read, and a file of today's becomes one by the steps alone.

`tests/golden/schema_1` holds what version 1 wrote: `first` at its beginning, with a checkpoint and what the model said;
`second`, a run of its end; a trial, a reproduction and a geometry.
"""

import ast
import copy
import hashlib
import json
from pathlib import Path

import pytest

from mnemoscope.runs import SCHEMA_VERSION, Manifest, RunConfig, RunDirectory, read_record
from mnemoscope.runs.migrations import STEPS, migrated, renamed_tensors

TESTS = Path(__file__).parents[2]
OLD = TESTS / "golden" / "schema_1"
SCHEMAS = TESTS / "golden" / "record_schemas.json"
SOURCE = TESTS.parent / "src" / "mnemoscope"

ADVICE = (
    "the records {names} are no longer those of schema version {version}. If files of this version are in anybody's "
    "hands, raise SCHEMA_VERSION (runs/record.py), add the step to runs/migrations.py and keep a file of the old "
    "version under tests/golden. Then, or if the version is new in this release, write the digests anew: "
    "python -m tests.unit.runs.test_migrations"
)


def digests() -> dict[str, str]:
    """What every record looks like as JSON, without its words; by the name of its class."""
    from mnemoscope.experiments.upgrading import KINDS
    from mnemoscope.runs.advice import Advice
    from mnemoscope.training.checkpoint import CheckpointState

    return {
        kind.__name__: hashlib.sha256(json.dumps(_bare(kind.model_json_schema()), sort_keys=True).encode()).hexdigest()[
            :16
        ]
        for kind in sorted({*KINDS.values(), Advice, CheckpointState}, key=lambda kind: kind.__name__)
    }


def _bare(schema: object) -> object:
    if isinstance(schema, list):
        return [_bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {field: _bare(one) for field, one in value.items()} if name == "properties" else _bare(value)
        for name, value in schema.items()
        if name not in ("title", "description")
    }


def test_no_record_changes_without_a_version():
    known = json.loads(SCHEMAS.read_text(encoding="utf-8"))[str(SCHEMA_VERSION)]
    now = digests()
    other = [name for name in {*known, *now} if known.get(name) != now.get(name)]
    assert not other, ADVICE.format(names=", ".join(sorted(other)), version=SCHEMA_VERSION)


def test_a_record_that_is_changed_has_another_digest():
    bare = _bare(RunConfig.model_json_schema())
    other = copy.deepcopy(bare)
    assert isinstance(other, dict)
    other["properties"]["title"] = {"type": "string"}
    assert _bare(other) == other != bare, "a field called title counts, the title of a schema does not"


def test_every_versioned_record_is_among_them():
    written = {
        node.name
        for file in SOURCE.rglob("*.py")
        if "SCHEMA_VERSION" in (text := file.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and "schema_version" in {_target(statement) for statement in node.body}
    }
    assert written == set(digests())


def _target(statement: ast.stmt) -> str:
    is_field = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    return statement.target.id if is_field else ""


def test_settings_have_the_names_of_today():
    config = RunDirectory.open(OLD / "first").read_config()
    first, second = config.resolved["model"]["mixers"]
    assert config.schema_version == SCHEMA_VERSION
    assert (first["memory"]["positions"], second["positions"]) == ("rotary", "none")
    assert config.passed["model"]["mixers"][1] == {"n_heads": 2, "positions": "none"}
    assert "rotary" not in config.model_dump_json().replace('"positions":"rotary"', "")


def test_memories_whose_rotary_is_still_called_so_keep_it():
    value = {"schema_version": 1, "passed": {}, "resolved": {"mixers": [{"kind": "retention", "rotary": True}]}}
    assert migrated(value, "RunConfig")["resolved"]["mixers"] == [{"kind": "retention", "rotary": True}]


def test_a_record_is_not_changed_in_place():
    value = json.loads((OLD / "first" / "config.json").read_text())
    before = copy.deepcopy(value)
    assert migrated(value, "RunConfig") != before == value


def test_a_record_of_today_is_left_alone():
    value = {"schema_version": SCHEMA_VERSION, "resolved": {"kind": "attention", "rotary": True}}
    assert migrated(value, "RunConfig") is value


def test_manifests_within_a_manifest_go_along(tmp_path: Path):
    manifest = json.loads((OLD / "first" / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "earlier": [manifest]}))
    found = read_record(tmp_path / "manifest.json", Manifest)
    assert found.schema_version == found.earlier[0].schema_version == SCHEMA_VERSION


def test_only_the_gate_of_a_parallel_block_has_another_name():
    old = ["a.mixer.beside.inner.x", "a.mixer.fusion.weight", "b.mixer.fusion.weight"]
    nested = ["c.beside.inner.beside.inner.x", "c.beside.inner.fusion.bias", "c.fusion.bias"]
    found = renamed_tensors([*old, *nested], 1)
    assert [new for name, new in found.items() if name != new] == [
        "a.mixer.fusion.mix.weight",
        "c.beside.inner.fusion.mix.bias",
        "c.fusion.mix.bias",
    ]
    assert renamed_tensors(old, 2) == {name: name for name in old}


def test_every_step_leads_to_a_known_version():
    assert all(1 <= version < SCHEMA_VERSION for version in STEPS)


@pytest.mark.parametrize("version", [0, -1, True, "1", None])
def test_a_version_that_never_was_is_refused(tmp_path: Path, version: object):
    value = {"schema_version": version, "passed": {}, "resolved": {}}
    (tmp_path / "config.json").write_text(json.dumps(value))
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        read_record(tmp_path / "config.json", RunConfig)


def test_metrics_have_never_changed():
    rows = RunDirectory(OLD / "first").read_metrics()
    assert [row["step"] for row in rows] == [2, 4]
    assert all({"loss", "learning_rate"} <= row.keys() or "val_loss" in row or len(row) > 1 for row in rows)


if __name__ == "__main__":
    known = json.loads(SCHEMAS.read_text(encoding="utf-8")) if SCHEMAS.exists() else {}
    SCHEMAS.write_text(json.dumps({**known, str(SCHEMA_VERSION): digests()}, indent=2) + "\n", encoding="utf-8")
