"""Remedies are listed, and each has a page."""

import pytest

from mnemoscope.cli.list import List
from mnemoscope.cli.show import Show
from mnemoscope.training.remedies import REMEDIES


def test_remedies_are_listed_with_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert List(what="remedies").run() == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("remedies: ")
    assert "window_dropout Window dropout: now and then attention sees only what is near" in said
    assert all(f" {name} " in said for name in REMEDIES)


@pytest.mark.parametrize("name", list(REMEDIES))
def test_a_remedy_has_a_page(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert Show(name=name).run() == 0
    page = capsys.readouterr().out
    for part in ("WHY", "Published effect: ", "KNOWN LIMITS", "EXAMPLE", "SOURCE"):
        assert part in page
    assert "\nstrength" in page


def test_a_page_takes_no_parameters() -> None:
    with pytest.raises(ValueError, match="show window_dropout: a remedy takes no parameters here, got window=3"):
        Show(name="window_dropout", options=("window=3",)).run()
