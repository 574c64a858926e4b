"""What each version of a run's files changed, and how a file of an earlier version is read.

version 1   attention had `rotary`, true or false; the gate of a parallel block was a linear layer called `fusion`
version 2   attention has `positions`; that layer is called `fusion.mix`, since blocks can be fused otherwise too

A file is taken from version to version until it is one of today, in memory: nothing is written. A change of a record
that a reader of the previous version would misread or refuse raises `SCHEMA_VERSION` and gets its step here, for every
kind of record that it touches; a kind without a step only takes the number. `mnemoscope upgrade` writes what is read.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mnemoscope.runs.record import SCHEMA_VERSION
from mnemoscope.runs.renamed import renamed_settings

Json = dict[str, Any]
Step = Callable[[Json], Json]


def _settings_to_2(config: Json) -> Json:
    resolved = config.get("resolved")
    if "passed" not in config or resolved is None:
        return config
    return {
        **config,
        "passed": renamed_settings(config.get("passed"), resolved),
        "resolved": renamed_settings(resolved),
    }


STEPS: Mapping[int, Mapping[str, Step]] = {1: {"RunConfig": _settings_to_2}}
"""By the version that a file has, and the class of its record: what makes it one of the next version."""


def migrated(value: Json, kind: str) -> Json:
    """A record as JSON, as one of this version.

    Args:
        value: parsed JSON with a `schema_version` up to today's; not changed.
        kind: name of the record's class.

    Returns:
        `value` itself where it is one of this version.
    """
    for version in range(value["schema_version"], SCHEMA_VERSION):
        step = STEPS.get(version, {}).get(kind)
        value = {**(value if step is None else step(value)), "schema_version": version + 1}
        if isinstance(value.get("earlier"), list) and kind == "Manifest":
            value["earlier"] = [migrated(one, kind) if _is_older(one) else one for one in value["earlier"]]
    return value


def renamed_tensors(names: Iterable[str], version: int) -> dict[str, str]:
    """What the tensors of a checkpoint are called today, by what they were called when it was written.

    Args:
        names: of all parameters and buffers of the model.
        version: schema version of the checkpoint.
    """
    names = list(names)
    if version > 1:
        return {name: name for name in names}
    # A bank's own gate is called `fusion` to this day; only a parallel block has something beside.
    parallel = {name[: match.start()] for name in names for match in re.finditer(r"\.beside\.", name)}
    return {name: _tensor_to_2(name, parallel) for name in names}


def _tensor_to_2(name: str, parallel: set[str]) -> str:
    match = re.fullmatch(r"(.+)\.fusion\.(weight|bias)", name)
    return f"{match[1]}.fusion.mix.{match[2]}" if match and match[1] in parallel else name


def _is_older(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("schema_version"), int)
