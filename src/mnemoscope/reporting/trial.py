"""The page of a trial: which arm is accepted, every seed behind that, and what is missing."""

from pathlib import Path

from mnemoscope.reporting.glossary import OUTCOMES, TRIAL_TERMS
from mnemoscope.reporting.page import environment
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
)
from mnemoscope.runs import write_text
from mnemoscope.runs.trial import Trial


def render_trial(trial: Trial) -> str:
    """The text of one HTML file that asks for nothing outside itself; the same trial gives the same bytes."""
    text = (
        environment()
        .get_template("trial.html.j2")
        .render(
            title=f"Trial: {trial.name}",
            command=trial.command,
            trial=trial,
            question=question(trial),
            headline=headline(trial),
            outcomes=[(row, OUTCOMES[row.outcome].text, shares(row, trial), because(row)) for row in trial.comparisons],
            totals=totals(trial),
            drawings=trial_figures(trial),
            comparisons=comparisons_table(trial),
            claims=claims_table(trial),
            seeds=seeds_table(trial),
            made_with=made_with(trial),
            meanings=OUTCOMES,
            terms=TRIAL_TERMS,
        )
    )
    return text + "\n"


def write_trial(trial: Trial, path: str | Path) -> Path:
    """Write `render_trial`'s text to a file, whole or not at all; its folder is made if absent.

    Raises:
        OSError: if the file cannot be written; what was there before is still there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render_trial(trial))
    return path
