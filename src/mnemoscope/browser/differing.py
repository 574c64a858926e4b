"""Where the settings of several runs differ."""

from mnemoscope.browser.entries import Entry
from mnemoscope.browser.untrusted import peek
from mnemoscope.reporting.numbers import ABSENT
from mnemoscope.reporting.tables import Cell, Group, Table, settings


def differing(entries: list[Entry]) -> Table | None:
    """Settings that are not the same in all runs."""
    known = [dict(_settings_of(entry)) for entry in entries]
    names = dict.fromkeys(name for of_run in known for name in of_run)
    rows = [
        [Cell(name), *(Cell(of_run.get(name, ABSENT)) for of_run in known)]
        for name in names
        if len({of_run.get(name) for of_run in known}) > 1
    ]
    if not rows:
        return None
    columns = ["Setting", *(entry.name for entry in entries)]
    return Table("Settings that are not the same in all runs", columns, [Group("", rows)])


def _settings_of(entry: Entry) -> list[tuple[str, str]]:
    try:
        resolved = peek(entry.path / "config.json").get("resolved")
    except ValueError:
        return []
    return settings(resolved) if isinstance(resolved, dict) else []
