"""Reading files that nobody vouches for: regular ones, of bounded size, never through a link."""

import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic_core import from_json

from mnemoscope.runs import Record
from mnemoscope.runs.reading import parse_record

R = TypeVar("R", bound=Record)

MOST_RECORD_BYTES = 64 << 20
"""Of a JSON record, and of a stored page."""

PART_BYTES = 4 << 20

Stamp = tuple[int, int, int]
"""Time of the last change (ns), size (bytes), number of the file: what a cache is held against."""


def stamp_of(path: str | Path) -> Stamp | None:
    """What tells whether a file has changed; None for anything but a regular file, links too."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def read_bytes(path: str | Path, start: int = 0, most: int = MOST_RECORD_BYTES) -> bytes:
    """The bytes of a regular file from `start` on, at most `most`; a pipe is not waited for, a link not followed.

    Raises:
        OSError: it cannot be opened, or is a link.
        ValueError: it is no regular file.
    """
    return read_places(path, [start], most)[0]


def read_places(path: str | Path, starts: Sequence[int], most: int) -> list[bytes]:
    """The same at several places of one file."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{path}: not a regular file; only those are read")
        return [_read(file, start, most) for start in starts]


def _read(file: io.FileIO, start: int, most: int) -> bytes:
    file.seek(start)
    parts, left = [], most
    while left > 0 and (part := file.read(min(left, PART_BYTES))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_untrusted(path: Path, kind: type[R]) -> R:
    """A record, of any earlier schema version.

    Raises:
        ValueError: whatever is wrong with it, in one line.
    """
    return parse_record(path, _whole(path).decode(errors="replace"), kind)


def peek(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds, unchecked.

    Raises:
        ValueError: whatever is wrong with it, in one line.
    """
    try:
        value = from_json(_whole(path))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a JSON object was required, got {type(value).__name__}")
    return value


def _whole(path: Path) -> bytes:
    try:
        content = read_bytes(path, most=MOST_RECORD_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    if len(content) > MOST_RECORD_BYTES:
        raise ValueError(f"{path}: larger than {MOST_RECORD_BYTES >> 20} MB, so it is not read")
    return content
