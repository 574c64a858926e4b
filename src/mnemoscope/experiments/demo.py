"""The demo: the whole idea on real input, in a few minutes on two CPU cores.

1. A hybrid of attention and gated-delta memory learns English prose; is its memory used?
2. The same kind of hybrid learns recall beside full attention; what share of the task is the memory's?
3. The prescription that is sure on this task, an attention window too short to solve it, is applied; what now?

What is measured is what is shown, expected or not.
"""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from mnemoscope.examination import Budget
from mnemoscope.experiments.examining import examine_run
from mnemoscope.experiments.recipes import RECIPES
from mnemoscope.experiments.reports import report_runs
from mnemoscope.runs import Examination, RunDirectory
from mnemoscope.training import train_recipe

BUDGET = Budget(n_calibration=256, n_test=512, fit_steps=120, joint_fit_steps=60)

PHASES = {
    "text": ("text-hybrid", "a hybrid of windowed attention and gated-delta memory on English prose"),
    "recall-before": ("recall-full-attention", "the same kind of hybrid on recall, with full attention"),
    "recall-after": ("recall-short-window", "recall again, as prescribed: attention sees 4 tokens"),
}
"""Folder of each run: its recipe, and what it is."""

TRAINING_SECONDS = {"text": 25, "recall-before": 35, "recall-after": 50}
EXAMINATION_SECONDS = {"text": 10, "recall-before": 15, "recall-after": 15}
"""Expected on two idle cores; announced, never relied on."""


def run_demo(
    directory: str | Path, say: Callable[[str], None], show: Callable[[str, Examination], None], progress: bool = True
) -> Path:
    """Train, examine, treat, examine again, report.

    Trainings that were finished or interrupted in the same folder are taken up where they are.

    Args:
        directory: where the runs and `report.html` go.
        say: prints a line.
        show: prints the verdicts of a run.
        progress: show training progress.

    Returns:
        The report's path.

    Raises:
        KeyboardInterrupt: a signal stopped a training; the same folder goes on from there.
    """
    directory, began = Path(directory), perf_counter()
    found: dict[str, Examination] = {}
    for number, (folder, (recipe, what)) in enumerate(PHASES.items(), start=1):
        run = directory / folder
        say(f"[{number}/{len(PHASES)}] train {what} (about {TRAINING_SECONDS[folder]} s)")
        trained = train_recipe(RECIPES[recipe], run, resume=RunDirectory(run).begun, progress=progress)
        if trained.exit_state == "interrupted":
            raise KeyboardInterrupt
        say(f"[{number}/{len(PHASES)}] examine every memory on held-out data (about {EXAMINATION_SECONDS[folder]} s)")
        found[folder] = examine_run(run, BUDGET)
        show(folder, found[folder])
    report = report_runs([directory / folder for folder in PHASES], directory / "report.html", title="Mnemoscope demo")
    for line in summary(found, directory):
        say(line)
    say(f"{report}  (all of it took {perf_counter() - began:.0f} s)")
    return report


def summary(found: dict[str, Examination], directory: Path) -> list[str]:
    """What was found, in five lines."""
    text, before, after = (found[folder] for folder in PHASES)
    return [
        f"Text: {_verdicts(text)}; loss {_bits(text)} bits per byte.",
        f"Recall with full attention: {_verdicts(before)}; the memory carries {_share(before)} of the task.",
        f"Prescribed: {before.prescriptions[0].change if before.prescriptions else 'nothing'}.",
        f"Recall with a window of 4: {_verdicts(after)}; the memory carries {_share(after)} of the task.",
        f"Loss at the queries before {before.base_loss.value:.3f}, after {after.base_loss.value:.3f} nats, "
        f"chance {after.constant_output_loss or float('nan'):.2f}.",
    ]


def _verdicts(examination: Examination) -> str:
    return ", ".join(f"{site.name} is {site.verdict or 'without verdict'}" for site in examination.sites)


def _share(examination: Examination) -> str:
    share = examination.memories_share
    return "an unknown share" if share is None else f"{max(share.value, 0):.0%}"


def _bits(examination: Examination) -> str:
    return f"{examination.base_loss.value / 0.6931471805599453:.2f}"
