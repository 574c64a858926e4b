"""Text of a data set on the Hugging Face hub: streamed once, up to a number of bytes, and kept.

    hub:owner/name                                   column "text" of the split "train"
    hub:owner/name?config=raw&split=test             another configuration and split
    hub:owner/name?column=story&revision=1a2b3c4d    another column; a branch, tag or commit

The documents are taken in the order of the data set, joined by an empty line, and cut after `max_bytes` bytes, or up to
three before, so that the last character is whole. Rows without text (null) are passed over. Only what is needed is
downloaded. The text is kept as a UTF-8 file in the folder of `mnemoscope.tasks.cache`, under a name that depends on all
of the above: whoever asks for it again reads the same bytes, without a network. To see what has changed on the hub,
name a revision, or delete the file.

Needs the package `datasets`.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from mnemoscope.tasks.cache import cache_path, writing

PREFIX = "hub:"
"""What a corpus on the hub begins with."""

_JOINT = b"\n\n"


@dataclass(frozen=True, kw_only=True)
class HubText:
    """Which column of which data set.

    Args:
        name: "owner/name".
        config: of the data set; None: its only or default one.
        split: as the data set names it.
        column: with the text, one document for each row.
        revision: a branch, tag or commit; None: what is newest when it is first read.
    """

    name: str
    config: str | None = None
    split: str = "train"
    column: str = "text"
    revision: str | None = None


def parse_hub(corpus: str) -> HubText:
    """What "hub:owner/name?config=...&split=...&column=...&revision=..." says.

    Raises:
        ValueError: another form, or an unknown or repeated parameter, with the nearest one.
    """
    name, _, query = corpus.removeprefix(PREFIX).partition("?")
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise ValueError(f"corpus {corpus!r}: must be hub:owner/name, got the name {name!r}")
    try:
        pairs = parse_qsl(query, strict_parsing=bool(query))
    except ValueError as error:
        raise ValueError(f"corpus {corpus!r}: must have parameters like split=train&column=text, got {error}") from None
    known = [field.name for field in fields(HubText) if field.name != "name"]
    for key, _ in pairs:
        if key not in known or len(pairs) != len(dict(pairs)):
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"corpus {corpus!r}: parameters must be among {', '.join(known)}, each once, got "
                f"{'&'.join(key for key, _ in pairs)}; nearest valid: {nearest!r}"
            )
    return HubText(name=name, **dict(pairs))


def hub_file(corpus: str, max_bytes: int) -> Path:
    """The file that holds the first `max_bytes` bytes of a corpus on the hub; fetches it if it is not there yet.

    Raises:
        ValueError: a corpus that is misspelt or holds no text, no package `datasets`, or no answer from the hub.
    """
    source = parse_hub(corpus)
    about = json.dumps([asdict(source), max_bytes], sort_keys=True)
    name = f"{source.name.replace('/', '--')}-{hashlib.sha256(about.encode()).hexdigest()[:16]}.txt"
    path = cache_path("hub", name)
    if not path.exists():
        with writing(path) as file:
            n_bytes = 0
            for document in _documents(corpus, source):
                n_bytes += file.write(_cut((_JOINT if n_bytes else b"") + document.encode(), max_bytes - n_bytes))
                if n_bytes > max_bytes - 4:
                    break
            if n_bytes == 0:
                raise ValueError(
                    f"corpus {corpus!r}: must hold text, got 0 bytes in the column {source.column!r} of the split "
                    f"{source.split!r}; name another column or split"
                )
    return path


def _cut(text: bytes, n_bytes: int) -> bytes:
    """At most so many bytes of valid UTF-8, without a torn character at the end."""
    return text if len(text) <= n_bytes else text[:n_bytes].decode("utf-8", errors="ignore").encode()


def _documents(corpus: str, source: HubText) -> Iterator[str]:
    for row in _rows(corpus, source):
        if source.column not in row:
            raise _no_column(corpus, source, list(row))
        document = row[source.column]
        if document is not None and not isinstance(document, str):
            raise ValueError(
                f"corpus {corpus!r}: the column {source.column!r} must hold text, got {type(document).__name__}; "
                f"columns with text: {', '.join(name for name, value in row.items() if isinstance(value, str)) or '-'}"
            )
        if document:
            yield document


def _rows(corpus: str, source: HubText) -> Iterator[Mapping[str, Any]]:
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"corpus {corpus!r}: needs the package datasets, got {error}; pip install 'mnemoscope[text]'"
        ) from error
    if Path(source.name).exists():
        raise ValueError(
            f"corpus {corpus!r}: must be on the hub, got a path of that name below the current folder, which datasets "
            f"would read instead; to read that, leave out {PREFIX!r}, or else start from another folder"
        )
    try:
        rows = datasets.load_dataset(
            source.name, source.config, split=source.split, revision=source.revision, streaming=True
        )
        # Images and sound of other columns need not be fetched and decoded.
        if source.column in (rows.column_names or ()):
            rows = rows.select_columns([source.column])
        yield from rows
    # Below this line are an HTTP client, file systems and parsers of many formats, each with errors of its own.
    except Exception as error:
        raise ValueError(_unreadable(corpus, error)) from error


def _unreadable(corpus: str, error: Exception) -> str:
    said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    if isinstance(error, ConnectionError):
        return (
            f"corpus {corpus!r}: must be reachable or have been read before with the same parameters, got {said}; "
            "look at the network and at HF_HUB_OFFLINE, or copy the file from the cache of a machine that has read it"
        )
    return f"corpus {corpus!r}: must be a public data set with that configuration, split and revision, got {said}"


def _no_column(corpus: str, source: HubText, columns: list[str]) -> ValueError:
    nearest = difflib.get_close_matches(source.column, columns, n=1, cutoff=0.0)
    return ValueError(
        f"corpus {corpus!r}: the data set must have the column {source.column!r}, got {', '.join(columns)}; "
        f"nearest valid: {PREFIX}{source.name}?column={nearest[0] if nearest else '...'}"
    )
