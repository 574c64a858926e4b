"""Every claim of the Parallax notes has a page, and each can come out either way."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from mnemoscope.experiments.parallax.collapse_claims import WORSE
from mnemoscope.experiments.parallax.findings import HEADING, STUDIES
from mnemoscope.experiments.published import FINDINGS, PARALLAX
from mnemoscope.experiments.reproducing import Result, resolved_settings
from mnemoscope.experiments.survey.frame import Finding, Study, verdict
from mnemoscope.experiments.survey.pages import write_findings
from mnemoscope.runs import write_record

BY_SLUG = {finding.slug: (study, finding) for study in STUDIES for finding in study.findings}


def results(study: Study, *seeds: Mapping[str, float]) -> list[Result]:
    """With figures that nothing is said of at 0."""
    names = {claim.figure: 0.0 for claim in study.experiment.claims}
    return [
        Result(
            experiment=study.experiment.name,
            size="small",
            seed=seed,
            settings=resolved_settings(study.experiment, "small"),
            figures=names | dict(figures),
            series={},
            seconds=60.0,
            versions={},
        )
        for seed, figures in enumerate(seeds)
    ]


def answer(slug: str, *seeds: Mapping[str, float]) -> str:
    study, finding = BY_SLUG[slug]
    return str(verdict(finding, study.experiment.claims, results(study, *seeds)))


def within(study: Study, finding: Finding) -> dict[str, float]:
    """Figures that meet every bar of a finding."""
    asked = {*finding.decided_by, *finding.requires}
    bars = {claim.figure: claim for claim in study.experiment.claims if claim.figure in asked}
    return {name: bar.least if bar.least is not None else bar.most or 0.0 for name, bar in bars.items()}


def test_slugs_are_of_one_page_each():
    slugs = [finding.slug for _, studies in FINDINGS.values() for study in studies for finding in study.findings]
    assert len(set(slugs)) == len(slugs)
    assert {study.experiment.name for study in STUDIES} < {experiment.name for experiment in PARALLAX}


@pytest.mark.parametrize("slug", BY_SLUG)
def test_a_claim_holds_at_its_bars_and_not_beyond_all_of_them(slug: str):
    study, finding = BY_SLUG[slug]
    at = within(study, finding)
    assert answer(slug, at, at, at) == "holds"
    bars = {claim.figure: claim for claim in study.experiment.claims}
    beyond = {name: at[name] + (1 if bars[name].least is None else -1) for name in finding.decided_by}
    assert answer(slug, *[at | beyond] * 3) == "does not hold"
    if finding.requires:
        name = finding.requires[0]
        lacking = at | {name: at[name] + (1 if bars[name].least is None else -1)}
        assert answer(slug, *[lacking] * 3) == "not testable at this size"


def test_directions_are_decided_by_the_interval_over_seeds():
    def correlations(*values: float) -> list[dict[str, float]]:
        return [{"A0_cosine": 0.97, "correlation": value} for value in values]

    assert answer("diversity-hurts", *correlations(-0.8, -0.7, -0.75)) == "holds"
    assert answer("diversity-hurts", *correlations(-0.9, -0.05, -0.1)) == "undecided", "all below 0, their interval not"
    assert answer("diversity-hurts", *correlations(0.8, 0.7, 0.75)) == "does not hold"
    worse = {f"{arm}_over_A0": 0.02 for arm in WORSE} | {"A0_cosine": 0.97}
    noise = [worse | {"A4_over_A0": value} for value in (1e-5, 2e-3, 1e-4)]
    found = answer("fixes-make-it-worse", *noise)
    assert found.startswith("holds only when")
    assert "drawn anew" not in found


def test_pages_are_written_from_what_is_there(tmp_path: Path):
    study = BY_SLUG["stability-line"][0]
    folder = tmp_path / "parallax-phase" / "small"
    folder.mkdir(parents=True)
    for result in results(study, *[{"line_obeyed": 1.0, "escaped_below": 3.0}] * 3):
        write_record(folder / f"seed-{result.seed}.json", result)
    index, *pages = write_findings(STUDIES, 3, tmp_path, tmp_path / "pages", HEADING)
    assert {page.stem for page in pages} == set(BY_SLUG)
    text = index.read_text()
    assert text.startswith("# What holds of the Parallax notes\n\nClaims of the notes")
    assert "mnemoscope reproduce parallax --seeds 3 --findings docs/findings/parallax\n" in text
    line = next(line for line in text.splitlines() if "(stability-line.md)" in line)
    assert line.endswith("| holds | `parallax-phase` | 3 |")
    assert "| not measured yet | `parallax-bidirectional` | 0 |" in text
    page = (tmp_path / "pages" / "large-starts-escape-below-the-line.md").read_text()
    assert "**Holds only when: every end counts that is not one vector.**" in page
