"""The page of a trial: which arm is accepted, every seed behind that, and what is missing."""

from pathlib import Path
from typing import Any

from mnemoscope.reporting.glossary import OUTCOMES, TRIAL_TERMS
from mnemoscope.reporting.rendering import rendered, write_page
from mnemoscope.reporting.takeaway import Files
from mnemoscope.reporting.trial_figures import trial_figures
from mnemoscope.reporting.trial_tables import (
    because,
    claims_table,
    comparisons_table,
    headline,
    made_with,
    question,
    seeds_table,
    shares,
    totals,
    utilities_table,
)
from mnemoscope.runs.trial import Trial


def render_trial(trial: Trial, files: Files | None = None) -> str:
    """The text of one HTML file that asks for nothing outside itself; the same trial gives the same bytes."""
    return rendered("trial.html.j2", files, **trial_fields(trial))


def trial_fields(trial: Trial) -> dict[str, Any]:
    """What the template of the page shows, by name."""
    return {
        "title": f"Trial: {trial.name}",
        "command": trial.command,
        "trial": trial,
        "question": question(trial),
        "headline": headline(trial),
        "outcomes": [(row, OUTCOMES[row.outcome].text, shares(row, trial), because(row)) for row in trial.comparisons],
        "totals": totals(trial),
        "drawings": trial_figures(trial),
        "comparisons": comparisons_table(trial),
        "claims": claims_table(trial),
        "utilities": utilities_table(trial),
        "seeds": seeds_table(trial),
        "made_with": made_with(trial),
        "meanings": OUTCOMES,
        "terms": TRIAL_TERMS,
    }


def write_trial(trial: Trial, path: str | Path, files: bool = False) -> Path:
    """Write `render_trial`'s text to a file, whole or not at all; with `files`, what it shows beside it (`write_page`).

    Raises:
        ValueError: with `files`, without the packages that make PDFs.
        OSError: if the file cannot be written; what was there before is still there.
    """
    return write_page(path, files, lambda kept: render_trial(trial, kept))
