"""Figures of a run while it trains: only what was appended since the last look is read.

Says what `mnemoscope.runs.read_rows` says of a file that is whole, about three times as fast, column by column. A line
that is no row is counted and skipped: a page has to stand even where a file is damaged.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, final

import numpy as np
from pydantic_core import from_json

from mnemoscope.browser.untrusted import read_bytes, stamp_of

MOST_BYTES = 512 << 20
"""Of one stream; what lies beyond is not shown, and `Series.problem` says so."""
MOST_NAMES = 500
LARGEST_STEP = 1 << 53

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Curve:
    """One figure: steps and values, of equal length, in the order in which they were logged."""

    steps: np.ndarray
    values: np.ndarray


NOTHING = Curve(np.zeros(0), np.zeros(0))


@final
class Series:
    """One stream of rows, `metrics.jsonl` or `timings.jsonl`.

    Args:
        path: it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.last_step = 0
        self._begin()

    def _begin(self) -> None:
        self._file, self._offset = 0, 0
        self._bad, self._unnamed = 0, False
        self._curves: dict[str, Curve] = {}

    @property
    def names(self) -> list[str]:
        """Of all figures, in order of their first appearance."""
        return list(self._curves)

    @property
    def problem(self) -> str:
        """What could not be shown, in a line; empty where everything can."""
        told = [f"{self._bad:,} lines of {self.path.name} are no rows and were left out"] if self._bad else []
        told += [f"only the first {MOST_NAMES} names of figures are shown"] if self._unnamed else []
        told += [f"only the first {MOST_BYTES >> 20} MB are shown"] if self._offset >= MOST_BYTES else []
        return "; ".join(told)

    def curve(self, name: str) -> Curve:
        """A figure by its name; empty where there is none."""
        return self._curves.get(name, NOTHING)

    def refresh(self) -> None:
        """Read what was appended; everything, where the file is another one."""
        stamp = stamp_of(self.path)
        if stamp is None or stamp[2] != self._file or stamp[1] < self._offset:
            self._begin()
        if stamp is None:
            return
        self._file = stamp[2]
        if min(stamp[1], MOST_BYTES) > self._offset:
            self._read()

    def _read(self) -> None:
        try:
            text = read_bytes(self.path, self._offset, MOST_BYTES - self._offset)
        except (OSError, ValueError):
            return
        whole = text.rfind(b"\n") + 1
        self._offset += whole
        lines, begin = parsed(text[:whole]), 0
        for i in [i for i, line in enumerate(lines) if line is None or "segment" in line]:
            line = lines[i]
            if line is None or _is_marker(line):
                self._append([row for row in lines[begin:i] if row is not None])
                begin = i + 1
            if line is None:
                self._bad += 1
            elif _is_marker(line):
                self._forget_after(line["after_step"])
        self._append([row for row in lines[begin:] if row is not None])

    def _forget_after(self, step: int) -> None:
        """A new segment goes on after `step`; what was torn before it is no damage."""
        self._bad = 0
        kept = {name: (curve, curve.steps <= step) for name, curve in self._curves.items()}
        self._curves = {name: Curve(c.steps[mask], c.values[mask]) for name, (c, mask) in kept.items() if mask.any()}
        self.last_step = min(self.last_step, step)

    def _append(self, rows: list[Row]) -> None:
        if not rows:
            return
        try:
            columns = _columns(rows)
        except (TypeError, ValueError, OverflowError):
            good = [row for row in rows if _is_row(row)]
            self._bad += len(rows) - len(good)
            columns = _columns(good)
        for name, added in columns.items():
            before = self._curves.get(name)
            if before is None and len(self._curves) >= MOST_NAMES:
                self._unnamed = True
                continue
            self._curves[name] = added if before is None else _joined(before, added)
            if len(added.steps):
                self.last_step = max(self.last_step, int(added.steps.max()))


@final
class SeriesCache:
    """The streams that were looked at last; safe to be asked from several threads."""

    def __init__(self, most: int = 24) -> None:
        self._most, self._lock = most, Lock()
        self._kept: OrderedDict[Path, Series] = OrderedDict()

    def get(self, path: Path) -> tuple[Series, dict[str, Curve]]:
        """A stream as it is now: itself for its words, and its curves by name."""
        with self._lock:
            series = self._kept.setdefault(path, Series(path))
            self._kept.move_to_end(path)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
            series.refresh()
            return series, {name: series.curve(name) for name in series.names}


def parsed(text: bytes) -> list[Row | None]:
    """Every line as an object, None where it is not one; all in one go where nothing is torn."""
    try:
        values = from_json(b"[" + text.removesuffix(b"\n").replace(b"\n", b",") + b"]")
    except ValueError:
        values = []
    if len(values) != text.count(b"\n"):
        values = [_parsed(line) for line in text.split(b"\n") if line.strip()]
    return [value if isinstance(value, dict) else None for value in values]


def _parsed(line: bytes) -> Any:
    try:
        return from_json(line)
    except ValueError:
        return None


def _is_marker(line: Row) -> bool:
    return "segment" in line and type(line["segment"]) is int and type(line.get("after_step")) is int


def _is_row(row: Row) -> bool:
    step = row.get("step")
    return type(step) is int and abs(step) <= LARGEST_STEP and all(map(_is_number, row.values()))


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= LARGEST_STEP)


def _columns(rows: list[Row]) -> dict[str, Curve]:
    """Rows by column. Those with the same names are taken together, since rows rarely differ in them.

    Raises:
        TypeError, ValueError, OverflowError: where a row is not of numbers with a step.
    """
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, names in enumerate(map(tuple, rows)):
        alike[names].append(place)
    parts: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
    for names, places in alike.items():
        table = _table([rows[place] for place in places], len(names))
        steps, at = table[:, names.index("step")], np.asarray(places)
        for i, name in enumerate(names):
            if name != "step":
                parts.setdefault(name, []).append((at, steps, table[:, i]))
    return {name: _in_order(found) for name, found in parts.items()}


def _table(rows: list[Row], n_names: int) -> np.ndarray:
    """Rows with the same names; whole steps up to 2^53 are exact."""
    values = chain.from_iterable(row.values() for row in rows)
    return np.fromiter(values, float, len(rows) * n_names).reshape(len(rows), n_names)


def _in_order(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Curve:
    if len(parts) == 1:
        return Curve(parts[0][1], parts[0][2])
    at, steps, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(at, kind="stable")
    return Curve(steps[order], values[order])


def _joined(before: Curve, added: Curve) -> Curve:
    return Curve(np.concatenate([before.steps, added.steps]), np.concatenate([before.values, added.values]))


def first_loss(names: Iterable[str]) -> str | None:
    """Which figure a list shows of a run: the loss, else that of validation, else any, else the first figure."""
    names = list(names)
    wanted = [name for name in ("loss", "validation_loss") if name in names]
    return next(iter([*wanted, *(name for name in names if "loss" in name), *names]), None)
