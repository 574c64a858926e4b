"""Every snippet of every page runs, every recipe is one, and every command is understood."""

import json
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import tyro

import mnemoscope as ms
from mnemoscope.experiments.recipes import find_recipe
from tests.unit.docs import scopes
from tests.unit.docs.written import PAGES, blocks, commands

cli = import_module("mnemoscope.cli.main")
"""The file; the package calls its function the same."""

Scope = Callable[[Path], dict[str, Any]]

GIVEN: dict[tuple[str, int], Scope] = {
    ("README.md", 0): scopes.of_model,
    ("README.md", 1): scopes.of_model,
    ("advise.md", 0): scopes.of_run,
    ("design.md", 0): scopes.of_model,
    ("distributed.md", 0): scopes.of_run,
    ("folding.md", 0): scopes.of_stack,
    ("geometry.md", 0): scopes.of_table,
    ("huggingface.md", 0): scopes.of_export,
    ("index.md", 0): scopes.of_model,
    ("precision.md", 0): scopes.of_stack,
    ("training.md", 1): scopes.of_model,
    ("tutorial-examine.md", 1): scopes.of_model,
    ("watching.md", 1): scopes.of_huggingface_trainer,
    ("watching.md", 2): scopes.of_lightning_trainer,
}
"""What a snippet takes as given, by page and place; all others stand alone."""

CHEAPER = {
    "tutorial-three-moons.md": (
        ("STEPS, BATCH, CLIP = 500, 16", "STEPS, BATCH, CLIP = 3, 2"),
        ("length=400", "length=60"),
    ),
    "tutorial-examine.md": (("range(300)", "range(3)"),),
}
"""What is made smaller, so that it runs in a moment; it must stand there."""

LONG = ("huggingface.md", "watching.md")

SNIPPETS = [
    pytest.param(page, place, marks=pytest.mark.long if page in LONG else (), id=f"{page}-{place}")
    for page, text in PAGES.items()
    for place, _ in enumerate(blocks(text, "python"))
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mnemoscope.examination.session.Budget", lambda: scopes.TINY)
    return tmp_path


@pytest.mark.parametrize(("page", "place"), SNIPPETS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_snippet_runs(page: str, place: int, here: Path):
    text = blocks(PAGES[page], "python")[place]
    for old, new in CHEAPER.get(page, ()):
        assert old in PAGES[page], f"{page} no longer has {old!r}"
        text = text.replace(old, new)
    scope = GIVEN[page, place](here) if (page, place) in GIVEN else {}
    if page == "tutorial-examine.md" and place == 1:
        exec(blocks(PAGES[page], "python")[0].replace("range(300)", "range(3)"), scope)
    exec(compile(text, f"{page}, snippet {place}", "exec"), scope)


def test_snippets_leave_reports_where_they_say(here: Path):
    for page in ("index.md", "tutorial-examine.md"):
        place = len(blocks(PAGES[page], "python")) - 1
        (here / "report.html").unlink(missing_ok=True)
        test_a_snippet_runs(page, place, here)
        assert (here / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>"), page


def test_tutorials_are_as_short_as_they_say():
    moons = blocks(PAGES["tutorial-three-moons.md"], "python")
    assert len(moons) == 1
    assert len([line for line in moons[0].splitlines() if line.strip()]) < 60
    examined = blocks(PAGES["tutorial-examine.md"], "python")[-1]
    assert len([line for line in examined.splitlines() if line.strip()]) <= 10


def test_three_moons_of_the_tutorial_learn():
    scope: dict[str, Any] = {}
    (text,) = blocks(PAGES["tutorial-three-moons.md"], "python")
    text = text.replace("STEPS, BATCH, CLIP = 500, 16", "STEPS, BATCH, CLIP = 1, 2").replace("length=400", "length=60")
    exec(text, scope)
    _, first = scope["train"](3)
    scope["STEPS"] = 40
    _, last = scope["train"](3)
    assert last < 0.8 * first


RECIPES = [(page, text) for page in PAGES for text in blocks(PAGES[page], "json")]


@pytest.mark.parametrize(("page", "text"), RECIPES)
def test_a_recipe_is_one(page: str, text: str, tmp_path: Path):
    file = tmp_path / "recipe.json"
    file.write_text(text, encoding="utf-8")
    assert find_recipe(str(file)).name == json.loads(text)["name"]


COMMANDS = [(page, words) for page, text in PAGES.items() for words in commands(text)]


def test_pages_have_commands():
    assert len(COMMANDS) > 30
    assert {page for page, _ in COMMANDS} >= {"README.md", "tutorial-treat.md", "trials.md", "folding.md"}


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)[:50]}" for page, words in COMMANDS]
)
def test_a_command_is_understood(page: str, words: list[str]):
    assert understood(words).run is not None


def understood(words: list[str]) -> Any:
    """What the command line makes of words; SystemExit where it makes nothing of them."""
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff)
    return tyro.cli(cli.Command, args=words, prog="mnemoscope", config=config)


def test_words_that_are_no_command_are_not_understood(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        understood(["examine", "runs/a", "--no-such-option"])
    with pytest.raises(SystemExit):
        understood(["nonsense"])


def test_commands_in_running_text_name_verbs_that_there_are():
    for page, text in PAGES.items():
        for verb in re.findall(r"`mnemoscope ([a-z-]+)", text.replace("\n", " ")):
            assert verb in cli.VERBS, f"{page}: mnemoscope {verb}"


QUICK = [words for _, words in COMMANDS if words[0] in ("list", "show", "plan") and "runs/" not in " ".join(words)]


TELLING = [
    pytest.param(words, marks=pytest.mark.long if words[0] == "plan" else (), id=" ".join(words))
    for words in QUICK
    if "owner/name" not in words
]


@pytest.mark.parametrize("words", TELLING)
def test_a_command_that_only_tells_runs(words: list[str], here: Path, capsys: pytest.CaptureFixture[str]):
    assert understood(words).run() == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.long
def test_the_treatment_runs_from_its_page(here: Path, capsys: pytest.CaptureFixture[str]):
    for words in commands(PAGES["tutorial-treat.md"]):
        small = {
            "train": ["--steps", "3"],
            "examine": ["--calibration", "32", "--test", "32", "--fit-steps", "2"],
            "report": [],
        }
        if words[0] in small:
            assert understood([*words, *small[words[0]]]).run() == 0, words
    assert (here / "treated.html").exists()
    assert ms.__version__
