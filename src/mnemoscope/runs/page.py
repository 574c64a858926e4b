"""The page that documents `verdicts.json`, written from the records themselves."""

import inspect
import re
from typing import Any, get_args

from pydantic.fields import FieldInfo

from mnemoscope.runs.examination import Examination
from mnemoscope.runs.record import Record

HEAD = """# The record of an examination

`mnemoscope examine` and `examine_run` write one JSON file, `verdicts.json`: an `Examination`. `report.html` is drawn
from it alone. Numbers that are not finite are written as `NaN`, `Infinity` and `-Infinity`. A reader must refuse a
`schema_version` that is greater than the one it knows; unknown fields do not occur within a version. Files of every
earlier version are read, and `mnemoscope upgrade` rewrites them. Losses and effects are in nats per scored token unless
said otherwise.

This page is made by `mnemoscope.runs.page.page()` from the records, and a test holds it to them. The JSON Schema is
`mnemoscope.runs.Examination.model_json_schema()`.
"""


def page(root: type[Record] = Examination) -> str:
    """The page as Markdown: every record that the root holds, with its fields, in the order in which they come up."""
    return "\n".join([HEAD, *map(_section, _records(root))])


def _records(root: type[Record]) -> list[type[Record]]:
    found = [root]
    for record in found:
        for field in record.model_fields.values():
            found += [kind for kind in _held(field.annotation) if kind not in found]
    return found


def _held(annotation: Any) -> list[type[Record]]:
    """The records within a type."""
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return [annotation]
    return list(dict.fromkeys(kind for inner in get_args(annotation) for kind in _held(inner)))


def _section(record: type[Record]) -> str:
    rows = [f"| `{name}` | {_type(field)} | {_default(field)} |" for name, field in record.model_fields.items()]
    lines = [f"## {record.__name__}", "", inspect.getdoc(record) or "", "", "| field | type | if absent |"]
    return "\n".join([*lines, "| --- | --- | --- |", *rows, ""])


def _type(field: FieldInfo) -> str:
    named = field.annotation if not isinstance(field.annotation, type) else field.annotation.__name__
    plain = re.sub(r"(?:\w+\.)+(?=\w)", "", str(named))
    return f"`{plain}`".replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"`{field.get_default(call_default_factory=True)!r}`"
