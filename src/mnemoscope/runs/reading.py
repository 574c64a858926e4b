"""Reading what a run left: every error names the file, what is wrong in it, and what to do."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mnemoscope.runs.migrations import migrated
from mnemoscope.runs.record import SCHEMA_VERSION, Record

R = TypeVar("R", bound=Record)

_MEND = "restore the file from a copy, or start the run anew in another folder"


def read_record(path: Path, kind: type[R]) -> R:
    """Read one JSON file as a record; a file of an earlier schema version is migrated in memory.

    Args:
        path: the file.
        kind: the record's class; it must have a field `schema_version`.

    Raises:
        ValueError: if the file is missing, is not JSON, was written by a later schema version, or does not
            have the fields of the record.
    """
    return parse_record(path, read_text(path), kind)


def parse_record(path: Path, text: str, kind: type[R]) -> R:
    """The text of a file as a record; see `read_record`."""
    value = parse_json(path, text)
    if check_schema(path, value) < SCHEMA_VERSION:
        text = json.dumps(migrated(value, kind.__name__))
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{path}: not a valid {kind.__name__}: {describe(error)}; {_MEND}") from None


def parse_json(path: Path, text: str) -> dict[str, Any]:
    """Parse the text of a file that holds one JSON object.

    Raises:
        ValueError: if it holds anything else; the message has line and column.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}; {_MEND}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON that can be read: {error}; {_MEND}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: a JSON object was required, got {type(value).__name__}; {_MEND}")
    return value


def schema_of(path: Path) -> int:
    """The schema version that a file was written with; see `read_record` for the errors."""
    return check_schema(path, parse_json(path, read_text(path)))


def check_schema(path: Path, value: dict[str, Any]) -> int:
    """Refuse what a later Mnemoscope wrote.

    Returns:
        the schema version.

    Raises:
        ValueError: if `schema_version` is absent, no positive integer, or larger than this reader knows.
    """
    version = value.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"{path}: schema_version must be an integer of at least 1, got {version!r}; {_MEND}")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"{path}: written with schema version {version}, but this Mnemoscope reads versions up to "
            f"{SCHEMA_VERSION}; upgrade Mnemoscope to read it"
        )
    return version


def describe(error: ValidationError) -> str:
    """One line for everything that pydantic found wrong: dotted field, what was required, what was got."""
    return "; ".join(
        _problem(".".join(map(str, problem["loc"])), problem["msg"], problem["input"]) for problem in error.errors()
    )


def _problem(where: str, message: str, got: object) -> str:
    if message.startswith("Value error, "):  # from our own classes, whose messages say where and what was got
        return message.removeprefix("Value error, ")
    shown = f", got {got!r}" if isinstance(got, str | int | float | None) else ""
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"


def read_text(path: Path) -> str:
    """A file as text; see `read_record` for the errors."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise ValueError(f"{path}: the file is missing; {_MEND}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); {_MEND}") from None
