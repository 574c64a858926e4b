"""Two languages on one recipe: what is refused, and what the texts are compared by."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.experiments import shared_runs
from mnemoscope.experiments.atlas.languages import COMMON, language_of, language_of_text, require_two_languages
from mnemoscope.experiments.atlas.text_languages import ATLAS_LANGUAGES, compared, distance
from mnemoscope.experiments.reproducing import reproduce
from mnemoscope.experiments.reproduction_page import reproduction_of
from tests.unit.experiments.atlas.test_text_studies import TINY, never

SENTENCES = {
    "english": "It was the best of times, and they had not seen what would be there for him by the river.",
    "french": "Il était une fois dans les bois un roi qui avait des enfants, mais elle ne les aimait pas.",
    "german": "Es war einmal ein Mann, der nicht wusste, dass die Tür auf war, und er ging mit dem Hund nach Haus.",
    "spanish": "En un lugar de la Mancha había un hidalgo, pero sus libros eran muy viejos y no hay más por hoy.",
    "italian": "Nel mezzo della notte gli uomini sono ancora nel bosco, ma il re non ha più una casa per loro.",
    "portuguese": "Ele não tinha uma casa, mas os filhos dela já foram até ao rio quando era muito cedo.",
    "dutch": "Het was een man van de stad, maar hij wist niet dat zijn broer met een hond bij het huis stond.",
}


@pytest.mark.parametrize("name", COMMON)
def test_a_language_is_known_by_its_common_words(name: str):
    assert language_of_text(20 * SENTENCES[name]).name == name


def test_the_embedded_texts():
    assert [language_of(corpus).name for corpus in ("prose", "stories", "code")] == ["english", "english", "code"]


def test_what_no_list_has_is_no_language():
    found = language_of_text("Litwo, ojczyzno moja! ty jeste\u015b jak zdrowie. " * 20)
    assert found.name is None
    assert str(found).startswith("unknown (common words: ")


@pytest.fixture
def french(tmp_path: Path) -> Path:
    path = tmp_path / "french.txt"
    path.write_text(
        "".join(f"Les {7 * i % 31} rois et les {13 * i % 24} dames qui dans une heure. " for i in range(400))
    )
    return path


@pytest.mark.parametrize(
    ("others", "complaint"),
    [
        (("prose", "code"), r"needs texts in two languages, got prose: english .*; code: code \(.*--text french.txt"),
        (("prose", "stories"), "needs texts in two languages, got prose: english .*; stories: english"),
        (("french", "french"), "needs texts in two languages, got .*: french"),
    ],
)
def test_one_language_or_code_is_refused_before_it_trains(
    others: tuple[str, ...], complaint: str, french: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(shared_runs, "train_recipe", never)
    corpora = tuple(str(french) if each == "french" else each for each in others)
    with pytest.raises(ValueError, match=complaint):
        compared(replace(TINY, corpora=corpora, arms=("base",)), 0, tmp_path)


def test_a_text_of_no_known_language_is_let_through(tmp_path: Path):
    (tmp_path / "polish.txt").write_text("Litwo, ojczyzno moja! ty jeste\u015b jak zdrowie. " * 400)
    found = require_two_languages(("stories", str(tmp_path / "polish.txt")))
    assert [each.name for each in found] == ["english", None]


def test_two_texts_are_compared_seed_by_seed_and_against_seeds(french: Path, tmp_path: Path):
    small = replace(TINY, corpora=("stories", str(french)), arms=("base",), steps=2)
    experiment: Any = replace(ATLAS_LANGUAGES, sizes={"small": small})
    found = reproduce(experiment, 2, "small", tmp_path / "out", lambda line: None)
    figures, series = found[0].figures, found[0].series
    assert {claim.figure for claim in ATLAS_LANGUAGES.claims} <= set(figures)
    assert figures["A less B: utility"] == figures["A, base: utility"] - figures["B, base: utility"]
    assert figures["A and B: curve"] == distance(series["A, base: held out"], series["B, base: held out"])
    page = reproduction_of(experiment, "small", found, 2, "")
    tables = {table.title: table for table in page.tables}
    languages = tables["Languages"].rows
    assert [row[1].split()[0] for row in languages] == ["english", "french"]
    far = {row[0]: row[1] for row in tables["How far apart the learning curves are"].rows}
    seeds = distance(series["A, base: held out"], found[1].series["A, base: held out"])
    assert far["two seeds of A"] == f"{seeds:.3f} ({seeds:.3f} to {seeds:.3f})"


def test_the_distance_by_hand():
    assert distance([0.0, 0.5, 1.0], [0.25, 0.25, 1.0]) == pytest.approx(0.5 / 3)
