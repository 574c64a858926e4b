"""The page has every row as it is."""

from pathlib import Path

from mnemoscope.examination.judgement.framework import FRAMEWORK

PAGE = Path(__file__).parents[4] / "docs" / "advise.md"


def test_every_row_is_on_the_page():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = {int(line.split("|")[1]): line for line in lines if line.startswith("| ") and line.split()[1].isdigit()}
    assert sorted(rows) == list(range(1, 26))
    for row in FRAMEWORK:
        assert row.condition in rows[row.number]
        assert row.change in rows[row.number]
