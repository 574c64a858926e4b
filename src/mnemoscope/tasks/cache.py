"""Where the tasks keep what they would otherwise fetch or train again: one folder of the user.

    $MNEMOSCOPE_CACHE, else $XDG_CACHE_HOME/mnemoscope, else ~/.cache/mnemoscope

A file there is written whole or not at all, and never changed: its name says what it depends on.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def cache_path(kind: str, name: str) -> Path:
    """The file of a name among those of a kind; it need not exist."""
    own, shared = os.environ.get("MNEMOSCOPE_CACHE"), os.environ.get("XDG_CACHE_HOME")
    folder = Path(own) if own else Path(shared or "~/.cache") / "mnemoscope"
    return folder.expanduser() / kind / name


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the name only after all of it has reached the disk.

    Raises:
        ValueError: where nothing can be written; it says how to name another folder.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")
    except OSError as error:
        raise ValueError(
            f"cache {str(path.parent)!r}: must be a folder that can be written, got {error.strerror}; name another in "
            "the environment variable MNEMOSCOPE_CACHE"
        ) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
