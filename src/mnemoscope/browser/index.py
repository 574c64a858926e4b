"""The index of a folder: found by walking it, kept as long as no file has changed in time or size."""

import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import final

from mnemoscope.browser.entries import FILES, Entry, Kind
from mnemoscope.browser.summarising import summarised
from mnemoscope.browser.untrusted import Stamp, stamp_of

RESCAN_SECONDS = 0.5
MOST_ENTRIES = 50_000
DEEPEST = 16

Key = tuple[Kind, str]


@final
class Index:
    """Everything at and below a folder that has a page. Names are paths below it: nothing else can be asked for.

    Links to folders are not followed, hidden folders and checkpoints not searched.

    Args:
        root: the folder.

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise ValueError(f"{root}: there is no such folder; give one that holds runs")
        self._lock, self._looked = Lock(), -RESCAN_SECONDS
        self._entries: dict[Key, Entry] = {}
        self.version = 0
        """Rises with every change that was seen."""

    def entries(self) -> Mapping[Key, Entry]:
        """By kind and name, as of now."""
        with self._lock:
            if time.monotonic() - self._looked >= RESCAN_SECONDS:
                self._look()
                self._looked = time.monotonic()
            return self._entries

    def find(self, kind: Kind, name: str) -> Entry | None:
        """One of them, in the state it has now."""
        entry = self.entries().get((kind, name))
        return None if entry is None else entry.at(time.time())

    def _look(self) -> None:
        found: dict[Key, Entry] = {}
        for kind, name, place, files in self._folders():
            stamps = tuple(files.get(file) for file in FILES[kind])
            kept = self._entries.get((kind, name))
            beside = ("report.html" in files, "trace.json" in files)
            if kept is None or kept.stamps != stamps or (kept.report, kept.trace) != beside:
                kept = summarised(kind, name, Path(place), stamps, list(files))
            found[kind, name] = kept
            if len(found) >= MOST_ENTRIES:
                break
        if found != self._entries:
            self.version += 1
            self._entries = found

    def _folders(self) -> Iterator[tuple[Kind, str, str, dict[str, Stamp]]]:
        """Every folder that is an entry: as what, its name, where, and its regular files."""
        taken = {child.name for child in os.scandir(self.root) if child.is_dir(follow_symlinks=False)}
        own = self.root.name if self.root.name not in taken else f"{self.root.name} (this folder)"
        for place, folders, names in os.walk(self.root):
            below = os.path.relpath(place, self.root)
            folders[:] = sorted(name for name in folders if name != "checkpoints" and not name.startswith("."))
            if below.count(os.sep) >= DEEPEST:
                folders.clear()
            present: list[Kind] = [kind for kind, needed in FILES.items() if _are_there(kind, needed, names)]
            if present:
                files = _stamps(place, names)
                name = own if below == os.curdir else below.replace(os.sep, "/")
                for kind in present:
                    yield kind, name, place, files


def _are_there(kind: Kind, needed: tuple[str, ...], names: list[str]) -> bool:
    return all(name in names for name in needed[: 2 if kind == "run" else 1])


def _stamps(place: str, names: list[str]) -> dict[str, Stamp]:
    known = {file for files in FILES.values() for file in files} | {"report.html", "trace.json"}
    stamps = {name: stamp_of(os.path.join(place, name)) for name in names if name in known}
    return {name: stamp for name, stamp in stamps.items() if stamp is not None}


def stored_pages(entry: Entry) -> list[str]:
    """Names of the stored HTML pages in the folder of an entry, `report.html` first; regular files alone."""
    try:
        with os.scandir(entry.path) as files:
            regular = [file.name for file in files if stat.S_ISREG(file.stat(follow_symlinks=False).st_mode)]
    except OSError:
        return []
    names = [name for name in regular if name.endswith(".html")]
    return sorted(names, key=lambda name: (name != "report.html", name))
