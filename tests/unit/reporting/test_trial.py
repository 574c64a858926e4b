"""The page of a trial: whole, silent, and with every seed and outcome on it."""

import re
import subprocess
import sys
from typing import get_args

import pytest

from mnemoscope.reporting.trial import render_trial, write_trial
from mnemoscope.runs.trial import Outcome, Trial
from tests.unit.reporting.samples import HOSTILE
from tests.unit.reporting.test_page import outline, words
from tests.unit.reporting.trial_samples import FAILURE, of_episodes, trial


def alone() -> Trial:
    """Only a control, of which nothing is finished."""
    (control, *_) = trial().arms
    seeds = [seed.model_copy(update={"loss": None, "share": None, "effect": None}) for seed in control.seeds]
    control = control.model_copy(update={"seeds": seeds, "share": None, "effect": None})
    return trial().model_copy(update={"arms": [control], "comparisons": [], "claims": [], "missing": [], "command": ""})


@pytest.mark.parametrize("made", [trial, alone, lambda: trial(HOSTILE)])
def test_the_page_is_well_formed_and_asks_for_nothing(made):
    html = render_trial(made())
    parsed = outline(html)
    for tag, attributes in parsed.tags:
        assert tag not in {"script", "img", "iframe", "object", "embed"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name)
            saved = target is not None and target.startswith("data:") and "download" in attributes
            assert target is None or target.startswith("#") or target == "data:," or saved
    assert "http" not in html.replace("http-equiv", "")
    assert not re.search(r"url\((?!#)", html)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "\u202e" not in html


def test_every_seed_and_outcome_is_on_it_in_order():
    text = words(render_trial(trial()))
    order = [
        "Recall <48>: do narrow and branch_dropout make the memory useful, compared with wide?",
        "None of 2 arms is accepted.",
        "mnemoscope trial recall.json --seeds 4",
        f"branch_dropout seed 3: {FAILURE}",
        "narrow … too few seeds",
        "branch_dropout ? inconclusive",
        "The memory's mean share of the headroom is 55 %, in wide 13 %.",
        "; 11 seeds would decide at this spread.",
        "Runs finished 7 of 8",
        "The memory's share, seed by seed",
        "branch_dropout mean 55 % [38 %, 72 %]",
        "What the memory gained, and what it cost",
        "branch_dropout 0 +3.48 0.000",
        "branch_dropout mean +1.24 [-3.36, 5.84] (97.5 %) -0.004 [-0.016, 0.008] (97.5 %)",
        "Compared with wide",
        "97.5 % intervals by Student's t",
        "Claims",
        "wide: the median share is under 20% NO 39% of 1 seeds",
        "dropout raises the mean share open: seeds are missing nothing yet",
        "wide: Recall, attention window 48; no remedy",
        "0 ◕ load-bearing (shared) 0.020 [0.016, 0.024]",
        "1 ○ decorative",
        f"3 not finished: {FAILURE}",
        "How it was made",
        "mnemoscope 0.1.0, torch 2.13.0",
    ]
    found = [text.find(part) for part in order]
    assert -1 not in found, order[found.index(-1)]
    assert found == sorted(found)
    rows = re.findall(r'<tr><th scope="row">.*?</tr>', render_trial(trial()).split("<h3>Seeds</h3>")[1], re.DOTALL)
    assert len(rows) == 3 + 1 + 1 + 4 + 1


@pytest.mark.parametrize("outcome", get_args(Outcome))
def test_the_answer_in_a_sentence(outcome: Outcome):
    row = trial().comparisons[1].model_copy(update={"outcome": outcome})
    text = words(render_trial(trial().model_copy(update={"arms": trial().arms[::2], "comparisons": [row]})))
    said = "branch_dropout is accepted." if outcome == "accepted" else f"branch_dropout: {outcome}."
    assert f"compared with wide? {said}" in text


def test_utilities_stand_on_the_page_of_trainings_in_episodes():
    page = render_trial(of_episodes())
    assert "<h3>Utility</h3>" in page
    assert "gain over the control" in page
    assert "<h3>Utility</h3>" not in render_trial(trial())


def test_figures_draw_every_seed():
    html = render_trial(trial())
    shares, exchange = (svg for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "wide: 39 %, 0.0 %, -0.1 %; narrow: 100 %; branch_dropout: 100 %, 11 %, 53 %" in shares
    assert shares.count("var(--series-1") >= 3
    assert "margin 0.069 nats" in exchange
    assert "branch_dropout: effect +1.24" in exchange
    assert not re.search(r"#[0-9a-f]{6}", re.sub(r"var\(--[\w-]+, #[0-9a-f]{6}\)", "", shares + exchange))


def test_the_same_trial_gives_the_same_bytes_and_one_file(tmp_path):
    path = write_trial(trial(), tmp_path / "deep" / "report.html")
    assert path.read_text(encoding="utf-8") == render_trial(trial())
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_reporting_needs_no_torch():
    code = "import sys, mnemoscope.reporting.trial; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
