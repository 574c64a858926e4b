"""Where text comes from: two corpora that Python carries with it, a UTF-8 file, or a folder of them.

    "prose"   pydoc_data.topics: the language reference, topics in sorted order
    "code"    the top-level modules of the standard library (*.py), in sorted order; no packages, so no tests
    a path    the file, or every text file below the folder, in sorted order of relative path
    hub:...   a data set on the Hugging Face hub, see `mnemoscope.tasks.hub`

Parts are joined by an empty line. In a folder, text files are those with a suffix of `TEXT_SUFFIXES`; names that
begin with a dot are passed over, and symbolic links to folders are not followed. A file that is named itself may
have any suffix. The documents of JSON lines are parts too. A file called "prose" is reached as "./prose".

Files are read as a whole, and checked to be UTF-8: text must fit into memory, about twice while it is
checked. Text from the hub is mapped from the file that keeps it, which nobody changes.
"""

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnemoscope.tasks.hub import PREFIX, hub_file

JSON_LINES = ".jsonl"
"""Suffix, in any case, of files of one document a line: a JSON string, or an object with one under "text"."""

TEXT_SUFFIXES = (JSON_LINES, ".md", ".markdown", ".org", ".rst", ".tex", ".text", ".txt")
"""Suffixes, in any case, of the files that are read from a folder."""

_JOINT = b"\n\n"


def corpus_bytes(corpus: str, max_bytes: int | None = None) -> NDArray[np.uint8]:
    """The first `max_bytes` bytes of a corpus, or all of them, as an array that cannot be written to.

    Raises:
        ValueError: see `load_corpus`; a corpus on the hub that cannot be had, or without `max_bytes`.
    """
    if corpus.startswith(PREFIX) and max_bytes is not None:
        return np.asarray(np.memmap(hub_file(corpus, max_bytes), dtype=np.uint8, mode="r"))
    return np.frombuffer(load_corpus(corpus), dtype=np.uint8)[:max_bytes]


def load_corpus(corpus: str) -> bytes:
    """Read a corpus; a second call with unchanged files returns the same object.

    Args:
        corpus: "prose", "code", or a path of UTF-8 text; none on the hub, which has no end.

    Raises:
        ValueError: a missing path, a folder without text, or a file that is empty, binary or not UTF-8.
    """
    if corpus in EMBEDDED:
        return _read_embedded(corpus)
    if corpus.startswith(PREFIX):
        raise ValueError(
            f"corpus {corpus!r}: must be 'prose', 'code' or a path here, where nothing says after how many bytes to "
            "stop reading; mnemoscope.tasks.hub.hub_file(corpus, max_bytes) gives the path of a file with the text"
        )
    files = _find_files(corpus)
    stamps = tuple((os.fspath(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    if not any(n_bytes for _, _, n_bytes in stamps):
        raise ValueError(f"corpus {corpus!r}: must hold text, got 0 bytes; name a file or folder with content")
    return _read_stamped(stamps)


@lru_cache(maxsize=2)
def _read_embedded(corpus: str) -> bytes:
    return EMBEDDED[corpus]()


# One entry for several tasks of a run; more would keep stale versions of large corpora alive.
@lru_cache(maxsize=1)
def _read_stamped(stamps: tuple[tuple[str, int, int], ...]) -> bytes:
    return _JOINT.join(_read_file(Path(file)) for file, _, _ in stamps)


def _read_prose() -> bytes:
    # Half a megabyte that most users of this room never need.
    from pydoc_data.topics import topics

    return _JOINT.join(topics[name].encode() for name in sorted(topics))


def _read_code() -> bytes:
    folder = Path(os.__file__).parent
    # The folder may also hold the distribution's own files (sitecustomize, _sysconfigdata), which vary by machine.
    modules = sorted(file for file in folder.glob("*.py") if file.stem in sys.stdlib_module_names)
    if not modules:
        raise ValueError(
            f"corpus 'code': needs the standard library's sources, got no .py file in {folder}; "
            "use 'prose' or the path of a text file"
        )
    return _JOINT.join(module.read_text(encoding="utf-8").encode() for module in modules)


EMBEDDED: Mapping[str, Callable[[], bytes]] = {"prose": _read_prose, "code": _read_code}
"""The corpora that need no download; they differ between versions of Python."""


def _find_files(corpus: str) -> list[Path]:
    path = Path(corpus).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ValueError(
            f"corpus {corpus!r}: must be 'prose', 'code' or the path of a file or folder, got a path where there "
            f"is none; {_nearest(path)}"
        )
    files = sorted(_walk(path), key=lambda file: file.relative_to(path).as_posix())
    if not files:
        raise ValueError(
            f"corpus {corpus!r}: a folder must hold a file ending in {', '.join(TEXT_SUFFIXES)}, got none; "
            "name a file itself to read it whatever its suffix"
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent, name)
            if not name.startswith(".") and file.suffix.lower() in TEXT_SUFFIXES and file.is_file():
                yield file


def _nearest(path: Path) -> str:
    beside = {file.name: str(file) for file in path.parent.iterdir()} if path.parent.is_dir() else {}
    names = {**beside, **{name: name for name in EMBEDDED}}
    matches = difflib.get_close_matches(path.name, names, n=1)
    return f"nearest valid: {names[matches[0]]!r}" if matches else f"the current folder is {os.getcwd()!r}"


def _read_file(file: Path) -> bytes:
    data = file.read_bytes()
    nul = data.find(b"\0")
    if nul >= 0:
        raise ValueError(
            f"corpus file {str(file)!r}: must be UTF-8 text, got a NUL byte at offset {nul}; it is binary, or "
            "UTF-16 (convert it with `iconv -f UTF-16 -t UTF-8`)"
        )
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"corpus file {str(file)!r}: must be UTF-8 text, got the undecodable byte 0x{data[error.start]:02x} "
            f"at offset {error.start}; convert it (for instance with `iconv -f LATIN1 -t UTF-8`)"
        ) from error
    return _documents(file, data) if file.suffix.lower() == JSON_LINES else data


def _documents(file: Path, data: bytes) -> bytes:
    lines = [(n, line) for n, line in enumerate(data.decode().split("\n"), 1) if line.strip()]
    return _JOINT.join(_document(file, n, line).encode() for n, line in lines)


def _document(file: Path, n: int, line: str) -> str:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"corpus file {str(file)!r}, line {n}: must be JSON, {error}; rename a file of plain text to end in .txt"
        ) from error
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ValueError(
            f'corpus file {str(file)!r}, line {n}: must be a JSON string or an object with one under "text", got '
            f"{line[:40]}; write one document a line"
        )
    return text
