"""`mnemoscope upgrade`: the records of runs rewritten in today's schema, each original kept beside it.

Nothing needs it: reading migrates in memory. It is for archives, and for what reads the files without Mnemoscope.
Checkpoints stay as they are, since the version in their `state.json` says what their tensors are called.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mnemoscope.experiments.executors.attempts import Attempts
from mnemoscope.experiments.exporting import EXPORT, Exported
from mnemoscope.experiments.fold import FOLDING, Folding
from mnemoscope.experiments.kept_arms import ARM, ArmResult
from mnemoscope.experiments.reproducing import Result
from mnemoscope.experiments.reproduction_page import RECORD
from mnemoscope.experiments.trained.lottery import LOTTERY, Lottery
from mnemoscope.experiments.trained.pruning_gates import PRUNING, Pruning
from mnemoscope.experiments.trained.truth import OUTCOME, Outcome
from mnemoscope.runs import SCHEMA_VERSION, Examination, Manifest, Record, RunConfig, read_record, write_record
from mnemoscope.runs.atomic import write_bytes
from mnemoscope.runs.directory import CONFIG, MANIFEST, VERDICTS
from mnemoscope.runs.geometry import GeometryExamination
from mnemoscope.runs.migrations import migrated
from mnemoscope.runs.reading import check_schema, parse_json, read_text
from mnemoscope.runs.reproduction import Reproduction
from mnemoscope.runs.trace import TRACE, Trace
from mnemoscope.runs.trial import Trial
from mnemoscope.training.loggers.mirror import LOGGED, Logged

KINDS: Mapping[str, type[Record]] = {
    CONFIG: RunConfig,
    MANIFEST: Manifest,
    VERDICTS: Examination,
    "geometry.json": GeometryExamination,
    "trial.json": Trial,
    TRACE: Trace,
    RECORD: Reproduction,
    "seed-*.json": Result,
    ARM: ArmResult,
    "*.attempts.json": Attempts,
    FOLDING: Folding,
    EXPORT: Exported,
    OUTCOME: Outcome,
    PRUNING: Pruning,
    LOTTERY: Lottery,
    LOGGED: Logged,
}
"""What the files of runs, trials and reproductions hold, by their names."""


@dataclass(frozen=True, kw_only=True)
class Upgrade:
    """A file of an earlier schema version.

    Args:
        path: the file.
        version: that it has.
        changes: what becomes another besides the version: dotted fields, "-" gone and "+" new, with their values.
    """

    path: Path
    version: int
    changes: tuple[str, ...]

    @property
    def backup(self) -> Path:
        """Where the original is kept."""
        return self.path.with_name(f"{self.path.name}.schema-{self.version}")


def outdated(folder: str | Path) -> list[Upgrade]:
    """The records at and below a folder that an earlier schema version wrote, in order of path; all are validated.

    Raises:
        ValueError: no such folder, a damaged record, or one of a later version.
    """
    if not Path(folder).is_dir():
        raise ValueError(f"upgrade: there is no folder {folder}; give that of a run, a trial, or one that holds some")
    return [found for path, kind in _records(Path(folder)) if (found := _outdated(path, kind)) is not None]


def upgrade(found: Upgrade) -> None:
    """Rewrite one record in today's schema; the original stays beside it, under `found.backup`.

    Raises:
        ValueError: a backup is there already and is another file, or the record is damaged.
    """
    kind = _kind(found.path.name)
    assert kind is not None
    record, original = read_record(found.path, kind), found.path.read_bytes()
    if found.backup.exists() and found.backup.read_bytes() != original:
        raise ValueError(f"{found.backup}: holds another original of {found.path.name}; move it away and try again")
    write_bytes(found.backup, original)
    write_record(found.path, record)


def _records(folder: Path) -> Iterator[tuple[Path, type[Record]]]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "checkpoints" and not name.startswith("."))
        for name in sorted(files):
            kind = _kind(name)
            if kind is not None:
                yield Path(place, name), kind


def _kind(name: str) -> type[Record] | None:
    return next((kind for pattern, kind in KINDS.items() if fnmatch(name, pattern)), None)


def _outdated(path: Path, kind: type[Record]) -> Upgrade | None:
    value = parse_json(path, read_text(path))
    if "schema_version" not in value:  # another program's, such as the config.json of a Hugging Face model
        return None
    version = check_schema(path, value)
    if version == SCHEMA_VERSION:
        return None
    read_record(path, kind)
    return Upgrade(path=path, version=version, changes=_changes(value, migrated(value, kind.__name__)))


def _changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    old, new = dict(_fields("", before)), dict(_fields("", after))
    gone = [f"- {name} = {value!r}" for name, value in old.items() if (name, value) not in new.items()]
    added = [f"+ {name} = {value!r}" for name, value in new.items() if (name, value) not in old.items()]
    return tuple(line for line in [*gone, *added] if not line.split(" = ")[0].endswith("schema_version"))


def _fields(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Every number, text and None with its dotted path."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, one in inner:
            yield from _fields(f"{prefix}.{name}".lstrip("."), one)
    else:
        yield prefix, value
