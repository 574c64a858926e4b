"""What a run directory has to show: its settings, rows as they come, and what can be said of the whole."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from mnemoscope.runs import Examination, RunDirectory, SiteRecord
from mnemoscope.runs.metrics import Row, read_rows
from mnemoscope.training.loggers.protocol import Scalar


@final
class Rows:
    """The rows of a stream of a run: those that count, then those that are appended meanwhile.

    Args:
        path: `metrics.jsonl` or `timings.jsonl`.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def coming(self) -> list[Row]:
        """What has not been returned yet, in order of step."""
        if self._read == 0:
            self._read = self._path.stat().st_size if self._path.exists() else 0
            return read_rows(self._path)
        with self._path.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        return [row for line in whole.splitlines() if (row := _row(line)) is not None]


@final
class Figures:
    """All figures of a run by step, those of the clock among them.

    Args:
        run: its directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._metrics, self._timings = Rows(run.metrics_path), Rows(run.timings_path)

    def coming(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Steps that have not been returned yet, each with its figures."""
        rows = {int(row["step"]): _figures(row) for row in self._metrics.coming()}
        for row in self._timings.coming():
            if row["step"] in rows:
                rows[int(row["step"])] |= _figures(row)
        yield from rows.items()


def flat(settings: Mapping[str, Any] | list[Any], path: str = "") -> dict[str, Scalar]:
    """Nested settings as dotted names; an empty list or object is written as such."""
    named = enumerate(settings) if isinstance(settings, list) else settings.items()
    found: dict[str, Scalar] = {}
    for name, value in named:
        where = f"{path}{name}"
        if isinstance(value, dict | list):
            found |= flat(value, f"{where}.") if value else {where: json.dumps(value)}
        else:
            found[where] = value
    return found


def hyperparameters(run: RunDirectory) -> dict[str, Scalar]:
    """Every setting of a run, and on what it runs."""
    manifest = run.read_manifest()
    about = {name: getattr(manifest, name) for name in ("kind", "revision", "versions", "device", "threads", "seeds")}
    return flat({**run.read_config().resolved, "manifest": about})


def summary(run: RunDirectory, exit_state: str) -> dict[str, float | str]:
    """How a run ended, and its verdicts if it has been examined."""
    told: dict[str, float | str] = {"exit_state": exit_state}
    return told | verdicts(run.read_examination()) if run.verdicts_path.exists() else told


def verdicts(examination: Examination) -> dict[str, float | str]:
    """The verdicts of an examination and the figures they rest on, as `examination/<site>/<figure>`."""
    e = examination
    told: dict[str, float | str] = {"loss": e.base_loss.value, "headroom": e.headroom.value, "margin": e.margin}
    if e.memories_share is not None:
        told["memories_share"] = e.memories_share.value
    for site in (*e.sites, *e.groups):
        told |= {f"{site.name}/{name}": value for name, value in _of_site(site).items()}
    return {f"examination/{name}": value for name, value in told.items()}


def _of_site(site: SiteRecord) -> dict[str, float | str]:
    told: dict[str, float | str] = {"verdict": site.verdict or "effects only"}
    effect = site.effects.get("read", {}).get("optimal_constant")
    if effect is not None:
        told |= {"effect": effect.value, "effect_low": effect.low, "effect_high": effect.high}
    if site.share is not None:
        told["share"] = site.share.value
    return told


def _row(line: bytes) -> Row | None:
    """A row; None for the beginning of a segment, and for what is left of a line that was read before it was whole."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "step" in found else None


def _figures(row: Row) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "step"}
