"""What an address asks for: filters, order and scale, so that a view can be shared. Whatever is wrong is left out."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mnemoscope.browser.entries import Entry, Kind, State

Sort = Literal["name", "started", "changed", "state", "step", "loss", "verdict"]
MOST_ROWS = 2000
DEFAULT_ROWS = 250
LONGEST = 200
"""Characters of a filter."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Which lines of the list, in which order.

    Args:
        kind: of which kind.
        text: words that name or title must hold, in any case of letters.
        state: one that they must have; "" for any.
        verdict: one that they must have; "" for any.
        sort: by what.
        descending: the greatest first.
        page: from 1.
        rows: on a page.
    """

    kind: Kind = "run"
    text: str = ""
    state: str = ""
    verdict: str = ""
    sort: Sort = "started"
    descending: bool = True
    page: int = 1
    rows: int = DEFAULT_ROWS

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> "Listing":
        """From the parameters of an address."""
        sort = asked.get("sort", "")
        return cls(
            kind=_one_of(asked.get("kind"), get_args(Kind), "run"),
            text=asked.get("q", "")[:LONGEST],
            state=_one_of(asked.get("state"), get_args(State), ""),
            verdict=asked.get("verdict", "")[:LONGEST],
            sort=_one_of(sort, get_args(Sort), "started"),
            descending=asked.get("order", "asc" if sort in ("name", "state", "verdict", "loss") else "desc") != "asc",
            page=_whole(asked.get("page"), 1, 10**6, 1),
            rows=_whole(asked.get("rows"), 1, MOST_ROWS, DEFAULT_ROWS),
        )

    def chosen(self, entries: Iterable[Entry], now: float) -> list[Entry]:
        """Those that fit, in order."""
        words = self.text.lower().split()
        fitting = [entry.at(now) for entry in entries if entry.kind == self.kind]
        fitting = [entry for entry in fitting if self._fits(entry, words)]
        fitting.sort(key=lambda entry: entry.name)
        known = [entry for entry in fitting if _key(entry, self.sort) is not None]
        unknown = [entry for entry in fitting if _key(entry, self.sort) is None]
        return [*sorted(known, key=lambda e: _key(e, self.sort), reverse=self.descending), *unknown]

    def shown(self, chosen: list[Entry]) -> list[Entry]:
        """Those of the page."""
        return chosen[(self.page - 1) * self.rows : self.page * self.rows]

    def asking(self, **changes: object) -> dict[str, str]:
        """The parameters of an address that differ in these; what is as it is by default is left out."""
        mine = {"kind": self.kind, "q": self.text, "state": self.state, "verdict": self.verdict, "sort": self.sort}
        mine |= {"order": "desc" if self.descending else "asc", "page": self.page, "rows": self.rows}
        usual = {"kind": "run", "sort": "started", "order": "desc", "page": 1, "rows": DEFAULT_ROWS}
        merged = {name: value for name, value in (mine | changes).items() if value != usual.get(name, "")}
        if "sort" in merged:  # whose order by default is another
            merged["order"] = (mine | changes)["order"]
        return {name: str(value) for name, value in merged.items()}

    def _fits(self, entry: Entry, words: list[str]) -> bool:
        where = f"{entry.name} {entry.title}".lower()
        return (
            all(word in where for word in words)
            and self.state in ("", entry.state)
            and (not self.verdict or any(name == self.verdict for name, _ in entry.badges))
        )


@dataclass(frozen=True, kw_only=True)
class View:
    """Which curves, how.

    Args:
        text: words that the name of a figure must hold.
        log: logarithmic vertical axes.
        first: step from which on.
        last: step up to which.
        runs: that are compared.
    """

    text: str = ""
    log: bool = False
    first: float | None = None
    last: float | None = None
    runs: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, asked: Mapping[str, str], runs: Iterable[str] = ()) -> "View":
        """From the parameters of an address."""
        return cls(
            text=asked.get("figures", "")[:LONGEST],
            log=asked.get("y") == "log",
            first=_number(asked.get("from")),
            last=_number(asked.get("to")),
            runs=tuple(dict.fromkeys(runs)),
        )

    def shows(self, name: str) -> bool:
        """Whether a figure passes the filter."""
        return all(word in name.lower() for word in self.text.lower().split())

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The parameters of its address."""
        pairs = [("run", run) for run in self.runs]
        pairs += [("figures", self.text)] if self.text else []
        pairs += [("y", "log")] if self.log else []
        ends = {"from": self.first, "to": self.last}
        return [*pairs, *((name, f"{end:.0f}") for name, end in ends.items() if end is not None)]


def _key(entry: Entry, sort: Sort) -> Any:
    """What is sorted by; None stands last either way."""
    values: dict[Sort, object] = {
        "name": entry.name,
        "started": entry.started or None,
        "changed": entry.changed,
        "state": entry.state,
        "step": entry.step,
        "loss": entry.loss if entry.loss is not None and math.isfinite(entry.loss) else None,
        "verdict": entry.badges[0][0] if entry.badges else None,
    }
    return values[sort]


def _one_of(value: str | None, known: tuple[str, ...], otherwise: str) -> Any:
    return value if value in known else otherwise


def _whole(text: str | None, least: int, most: int, otherwise: int) -> int:
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 9:
        return otherwise
    return min(max(int(text), least), most)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None
