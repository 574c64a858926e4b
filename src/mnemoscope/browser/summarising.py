"""From the files of a folder to a line of the list. Whatever is in them, a line comes out."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

from mnemoscope.browser.entries import FILES, Entry, Kind, State
from mnemoscope.browser.series import first_loss, parsed
from mnemoscope.browser.untrusted import Stamp, peek, read_bytes, read_places, read_untrusted
from mnemoscope.reporting.glossary import MEANINGS
from mnemoscope.reporting.reproduction import headline as reproduction_headline
from mnemoscope.reporting.trial_tables import headline as trial_headline
from mnemoscope.runs import ExitState
from mnemoscope.runs.geometry import GeometryExamination
from mnemoscope.runs.reproduction import Reproduction
from mnemoscope.runs.trial import Trial

WHOLE_BYTES = 8 << 10
"""Smaller streams are read whole for the small curve of the list, larger ones in pieces of some lines."""
PIECES, LINES_OF_PIECE, LONGEST_LINE = 24, 2, 16 << 10
SPARK_POINTS = 48
MOST_WORDS = 300


def summarised(kind: Kind, name: str, path: Path, stamps: tuple[Stamp | None, ...], beside: Sequence[str]) -> Entry:
    """The line of a folder.

    Args:
        kind: what it is read as.
        name: its address.
        path: the folder.
        stamps: of `FILES[kind]`.
        beside: names of the regular files there.
    """
    plain = Entry(
        kind=kind,
        name=name,
        path=path,
        stamps=stamps,
        title=name,
        state="damaged",
        changed=max((stamp[0] / 1e9 for stamp in stamps if stamp), default=0.0),
        report="report.html" in beside,
        trace="trace.json" in beside,
    )
    try:
        return _OF_KIND[kind](plain)
    except (ValueError, OSError, RecursionError, KeyError, TypeError, AttributeError) as error:
        return replace(plain, about=_shortened(str(error)))


def _run(plain: Entry) -> Entry:
    config, manifest = (peek(plain.path / name) for name in FILES["run"][:2])
    state = manifest.get("exit_state")
    if state not in get_args(ExitState):
        raise ValueError(f"{plain.path}/manifest.json: exit_state must be one of {', '.join(get_args(ExitState))}")
    resolved = _mapping(config.get("resolved"))
    steps = _mapping(resolved.get("train")).get("steps")
    figure, points = sketched(plain.path / "metrics.jsonl", plain.stamps[2])
    return replace(
        plain,
        title=_shortened(str(resolved.get("name") or plain.name)),
        state=state,
        about=_shortened(str(manifest.get("message") or "")),
        started=_moment(manifest.get("started")),
        steps=steps if type(steps) is int else None,
        step=int(points[-1][0]) if points else None,
        loss=points[-1][1] if points else None,
        loss_name=figure,
        spark=tuple(points),
        badges=_verdicts(plain.path / "verdicts.json") if plain.stamps[4] else (),
    )


def _trial(plain: Entry) -> Entry:
    trial = read_untrusted(plain.path / "trial.json", Trial)
    done = sum(seed.is_finished for arm in trial.arms for seed in arm.seeds)
    return replace(
        plain,
        title=_shortened(trial.name),
        state="running" if trial.missing else "finished",
        about=trial_headline(trial),
        badges=_counted(row.outcome for row in trial.comparisons),
        step=done,
        steps=sum(len(arm.seeds) for arm in trial.arms),
    )


def _reproduction(plain: Entry) -> Entry:
    found = read_untrusted(plain.path / "reproduction.json", Reproduction)
    state: State = "finished" if len(found.seeds) >= found.wanted_seeds else "running"
    return replace(
        plain,
        title=_shortened(f"{found.experiment}, {found.size}"),
        state=state,
        about=reproduction_headline(found),
        step=len(found.seeds),
        steps=found.wanted_seeds,
    )


def _geometry(plain: Entry) -> Entry:
    found = read_untrusted(plain.path / "geometry.json", GeometryExamination)
    return replace(
        plain,
        title=_shortened(found.subject),
        state="finished",
        about=f"{found.n_nodes:,} nodes, {found.n_edges:,} edges",
        badges=((found.verdict.kind, 1),),
        step=found.step,
    )


_OF_KIND = {"run": _run, "trial": _trial, "reproduction": _reproduction, "geometry": _geometry}


def sketched(path: Path, stamp: Stamp | None) -> tuple[str, list[tuple[float, float]]]:
    """The loss of a run in few points, from few pieces of its stream: name of the figure, steps and values."""
    if stamp is None:
        return "", []
    rows = [row for row in parsed(_pieces(path, stamp[1])) if row]
    shapes = dict.fromkeys(map(tuple, rows))
    name = first_loss(dict.fromkeys(name for shape in shapes for name in shape if name not in ("step", "segment")))
    if name is None or name == "after_step":
        return "", []
    points: list[tuple[float, float]] = []
    for row in rows:
        after = row.get("after_step")
        if type(after) is int:
            points = [point for point in points if point[0] <= after]
        step, value = row.get("step"), row.get(name)
        if type(step) is not int or type(value) not in (int, float):
            continue
        while points and points[-1][0] >= step:  # a later segment, whose marker lies between two pieces
            points.pop()
        points.append(_finite(step, value))
    every = max(1, -(-len(points) // SPARK_POINTS))
    return name, [*points[:-1:every], *points[-1:]]


def _finite(step: int, value: Any) -> tuple[float, float]:
    try:
        return float(step), float(value)
    except OverflowError:
        return 0.0, math.nan


def _pieces(path: Path, size: int) -> bytes:
    """Whole lines of a stream: all of them, or those of some pieces from first to last."""
    head = read_bytes(path, most=WHOLE_BYTES)
    if size <= WHOLE_BYTES:
        return head
    length = LINES_OF_PIECE * min(max(map(len, head.split(b"\n"))), LONGEST_LINE)
    starts = [i * max(size - length, 0) // (PIECES - 1) for i in range(PIECES)]
    texts = read_places(path, starts, length)
    begins = [text.find(b"\n") + 1 if start else 0 for start, text in zip(starts, texts, strict=True)]
    return b"".join(text[begin : text.rfind(b"\n") + 1] for begin, text in zip(begins, texts, strict=True))


def _verdicts(path: Path) -> tuple[tuple[str, int], ...]:
    sites = peek(path).get("sites")
    found = [site.get("verdict") for site in sites if isinstance(site, dict)] if isinstance(sites, list) else []
    return _counted(verdict for verdict in found if isinstance(verdict, str) and verdict in MEANINGS)


def _counted(names: Any) -> tuple[tuple[str, int], ...]:
    return tuple(Counter(names).most_common())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


def _shortened(text: str) -> str:
    return text if len(text) <= MOST_WORDS else f"{text[:MOST_WORDS]}…"
