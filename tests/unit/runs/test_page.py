"""The documented schema is that of the records."""

from pathlib import Path

import mnemoscope.runs.examination as records
from mnemoscope.runs import Record
from mnemoscope.runs.page import page

PAGE = Path(__file__).parents[3] / "docs" / "examination-record.md"


def test_the_page_is_what_the_records_say():
    again = "from mnemoscope.runs.page import page; open('docs/examination-record.md', 'w').write(page())"
    assert PAGE.read_text(encoding="utf-8") == page(), f'write it anew: python -c "{again}"'


def test_every_record_and_field_is_on_it():
    text = page()
    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, Record)]
    for kind in kinds:
        if kind is not Record:
            section = text.split(f"## {kind.__name__}\n")[1].split("\n## ")[0]
            assert all(f"| `{name}` |" in section for name in kind.model_fields)


def test_a_record_may_hold_others_at_any_depth():
    class Leaf(Record):
        """A leaf."""

        n: int = 3

    class Tree(Record):
        """A tree."""

        leaves: dict[str, list[Leaf | None]]

    assert "## Leaf\n\nA leaf.\n\n| field | type | if absent |\n| --- | --- | --- |\n| `n` | `int` | `3` |" in page(
        Tree
    )
