"""Pages of findings, from results that are there: nothing is measured."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Result
from mnemoscope.experiments.survey import pages
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.pages import write_findings
from mnemoscope.runs import write_record


@dataclass(frozen=True)
class Settings:
    steps: int = 3


def refused(settings: Any, seed: int) -> Measured:
    raise AssertionError("nothing is to be measured")


CLAIMS = (
    Claim(figure="other", what="another | figure"),
    Claim(figure="control", what="control", published="learned", least=0.9),
    Claim(figure="gain", what="gain", published="positive", least=0.1),
)
FINDING = Finding(
    slug="gains",
    claim="More | is better",
    source="somebody 2020",
    decided_by={"gain": "at eight pairs"},
    requires=("control",),
    if_holds="Take more.",
    if_not="Take less.",
    elsewhere="Larger sizes.",
)
STUDY = study(
    Experiment(
        name="toy", what="is more better?", source="s", claims=CLAIMS, sizes={"small": Settings()}, measure=refused
    ),
    FINDING,
)


def leave(out: Path, *figures: Mapping[str, float]) -> None:
    folder = out / "toy" / "small"
    folder.mkdir(parents=True, exist_ok=True)
    for seed, each in enumerate(figures):
        kept = {"control": 1.0, "gain": 0.5, "other": 2.0} | dict(each)
        result = Result(
            experiment="toy",
            size="small",
            seed=seed,
            settings={"steps": 3},
            figures=kept,
            series={},
            seconds=60.0,
            versions={},
        )
        write_record(folder / f"seed-{seed}.json", result)


def page_of(out: Path, **changes: Any) -> str:
    write_findings([replace(STUDY, **changes)], 3, out, out / "pages")
    return (out / "pages" / "gains.md").read_text()


def test_a_page_has_the_claim_the_answer_every_seed_and_what_to_do(tmp_path: Path):
    leave(tmp_path, {}, {"gain": 0.25})
    page = page_of(tmp_path)
    assert page.startswith(
        "# More | is better\n\nSource: somebody 2020.\n\n**Holds.** 2 seeds of the 3 that were wanted."
    )
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert rows[0] == "| what | published | must be | seed 0 | seed 1 | mean | spread | passed |"
    assert rows[2] == "| *presupposed*: control | learned | at least 0.9 | 1 | 1 | 1 | 1 to 1 | yes |"[: len(rows[2])]
    assert {row.split(" | ")[0] for row in rows[2:]} == {
        "| another \\| figure",
        "| *presupposed*: control",
        "| **decides**: gain",
    }
    assert rows[-1].startswith("| another")
    assert "0.5 | 0.25 | 0.375 | 0.25 to 0.5 | yes |" in page
    assert "## What to do\n\nTake more.\n" in page
    assert "mnemoscope reproduce toy --seeds 3" in page
    assert "Settings: steps: 3. 2.0 minutes" in page


def test_the_list_has_every_answer(tmp_path: Path):
    leave(tmp_path, {"gain": 0.0})
    index, page = write_findings([STUDY], 3, tmp_path, tmp_path / "pages")
    assert page.name == "gains.md"
    assert "| [More \\| is better](gains.md) | does not hold | `toy` | 1 |" in index.read_text()


def test_a_seed_whose_control_failed_does_not_decide(tmp_path: Path):
    leave(tmp_path, {"control": 0.1, "gain": 0.0}, {}, {})
    page = page_of(tmp_path)
    assert (
        "**Holds.** 3 seeds; in 1 of them what the claim presupposes did not come about. "
        "What decides: at eight pairs, in 2 of the 2 seeds that could decide." in page
    )


def test_seeds_that_contradict_each_other_leave_it_undecided(tmp_path: Path):
    leave(tmp_path, {"gain": 0.0}, {})
    page = page_of(tmp_path)
    assert "**Undecided.** 2 seeds of the 3 that were wanted. What decides: at eight pairs, in 1 of the 2 seeds" in page


def test_most_seeds_must_be_able_to_decide(tmp_path: Path):
    leave(tmp_path, {"control": 0.1}, {"control": 0.1}, {})
    assert "**Not testable at this size.** In 2 of 3 seeds, what the claim presupposes" in page_of(tmp_path)


def test_without_results_a_page_says_so(tmp_path: Path):
    page = page_of(tmp_path)
    assert "**Not measured yet.** The command below measures it." in page
    assert "| --- |" not in page


def test_what_cannot_be_tested_comes_with_the_test_that_would_and_its_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    leave(tmp_path, {"control": 0.1})
    sizes = {"small": Settings(), "paper": Settings(steps=9)}
    larger = replace(STUDY.experiment, sizes=sizes, trainings=lambda settings: [])
    monkeypatch.setattr(pages, "estimates", lambda experiment, size: iter(()))
    monkeypatch.setattr(pages, "in_words", lambda hours: "2 to 3 GPU hours")
    page = page_of(tmp_path, experiment=larger)
    assert "**Not testable at this size.** In 1 seed of the 3 that were wanted" in page
    assert "`mnemoscope reproduce toy --size paper` is that test: 2 to 3 GPU hours a seed" in page


def test_results_of_other_settings_are_refused(tmp_path: Path):
    leave(tmp_path, {})
    other = replace(STUDY.experiment, sizes={"small": Settings(steps=4)})
    with pytest.raises(ValueError, match="was measured with"):
        write_findings([replace(STUDY, experiment=other)], 1, tmp_path, tmp_path / "pages")
