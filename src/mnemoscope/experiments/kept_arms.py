"""Arms that several experiments share: each measured once a seed and written when it is finished.

    OUT/grokking-arms/stablemax/arm-0.json        figures and curves of one arm

The same command goes on with the first arm that is not there yet. A file that was written under other settings is
refused.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from mnemoscope.experiments.calibrate import versions
from mnemoscope.experiments.reproducing import Measured
from mnemoscope.runs import SCHEMA_VERSION, Record, read_record, write_record

ARM = "arm-*.json"
"""By seed; those of experiments are called after the seed alone."""


class ArmResult(Record):
    """What one arm gave of one seed; see `Measured`."""

    schema_version: int = SCHEMA_VERSION
    arm: str
    seed: int
    settings: dict[str, Any]
    figures: dict[str, float]
    series: dict[str, list[float]] = Field(default_factory=dict)
    seconds: float
    versions: dict[str, str]


def kept_arm(folder: Path, name: str, settings: Any, seed: int, measure: Callable[[], Measured]) -> ArmResult:
    """What is kept of an arm, or, where nothing is, what is measured now; its figures and series are written.

    Args:
        folder: of all arms that are shared.
        name: of the arm.
        settings: everything that the arm depends on beside the seed; a dataclass of plain values.
        seed: of the arm.
        measure: gives it.

    Raises:
        ValueError: the arm was measured with other settings.
    """
    file = arm_file(folder, name, seed)
    asked = json.loads(json.dumps(asdict(settings)))
    if file.exists():
        found = read_record(file, ArmResult)
        if found.settings != asked:
            raise ValueError(
                f"reproduce: {file} was measured with {found.settings}, {name} has {asked}; name another --out folder, "
                "or remove the file"
            )
        return found
    began = time.perf_counter()
    measured = measure()
    result = ArmResult(
        arm=name,
        seed=seed,
        settings=asked,
        figures={key: float(value) for key, value in measured.figures.items()},
        series={key: [float(value) for value in values] for key, values in measured.series.items()},
        seconds=time.perf_counter() - began,
        versions=versions(),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_record(file, result)
    return result


def arm_file(folder: Path, name: str, seed: int) -> Path:
    """Where an arm stands."""
    return folder / name / ARM.replace("*", str(seed))
