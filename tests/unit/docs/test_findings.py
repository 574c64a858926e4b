"""The pages of `docs/findings` are those that the results of every seed, in `results/seeds`, give."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mnemoscope.experiments.parallax.findings import HEADING
from mnemoscope.experiments.parallax.findings import STUDIES as PARALLAX
from mnemoscope.experiments.survey.frame import Study
from mnemoscope.experiments.survey.pages import INDEX, SURVEY, Heading, write_findings
from mnemoscope.experiments.survey.studies import STUDIES

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("studies", "n_seeds", "heading"), [(STUDIES, 3, SURVEY), (PARALLAX, 5, HEADING)])
def test_pages_are_those_of_the_results(studies: Sequence[Study], n_seeds: int, heading: Heading, tmp_path: Path):
    """Where this fails, the command at the head of the list writes them anew."""
    there = ROOT / "docs" / heading.folder
    written = write_findings(studies, n_seeds, ROOT / "results" / "seeds", tmp_path, heading)
    assert {page.name for page in written} == {page.name for page in there.glob("*.md")}
    for page in written:
        assert page.read_text() == (there / page.name).read_text(), page.name
    assert "not measured yet" not in (there / INDEX).read_text()
