"""`parallax-collapse` in a few minutes: a bank, a bank whose spectrum is spread, and one slot.

Steps are those of `parallax-collapse`, since it is steps that bring slots together; a step sees two windows in place of
four. There is no examination: whether the bank is a bias is left to one slot in its place.

Chosen after a look at the bank of seed 0: with one window a step (0.29M tokens) its slots ended at a cosine of 0.936,
below the note's 0.94, and with two (0.57M) at 0.942.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.parallax.arms import Arm, CortexStudy
from mnemoscope.experiments.parallax.asked import of_arm, of_deletion
from mnemoscope.experiments.parallax.collapse import SOURCE, compared
from mnemoscope.experiments.parallax.collapse_claims import CLAIMS, DELETED, plots
from mnemoscope.experiments.parallax.collapse_tables import arms_table
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Experiment, Measured, Result
from mnemoscope.runs.reproduction import TextTable

NAME = "parallax-summary"
ARMS: tuple[Arm, ...] = ("A0", "A5", "A1")
BANKS: tuple[Arm, ...] = ("A0", "A1")
FIGURES = (
    *(f"A0_{name}" for name in ("cosine", "entropy", "sharpness", "rank", "read_rank")),
    *(f"deleted_{share:.0%}" for share in DELETED),
    *(f"{arm}_over_A0" for arm in ARMS[1:]),
    *(f"{arm}_perplexity" for arm in ARMS),
    "tokens",
)
"""Of `parallax-collapse`, with its bars."""


@dataclass(frozen=True, kw_only=True)
class SummaryStudy:
    """What is trained.

    Args:
        cortex: text, model and training.
    """

    cortex: CortexStudy = field(default_factory=lambda: CortexStudy(batch_size=2))


def summary(settings: SummaryStudy, seed: int, out: Path) -> Measured:
    """Train three arms, look at their banks, delete slots; all is kept within the folder of this experiment."""
    home, cortex = out / NAME, settings.cortex
    found = [of_arm(cortex, arm, seed, home) for arm in ARMS] + [of_deletion(cortex, seed, home)]
    figures, series = {"tokens": float(cortex.tokens)}, dict[str, Sequence[float]]()
    for answer in found:
        figures |= answer.figures
        series |= answer.series
    return Measured(figures=figures | compared(ARMS, figures), series=series)


def trainings(settings: SummaryStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.cortex.recipe(arm)) for arm in ARMS]


def tables(settings: SummaryStudy, found: Sequence[Result]) -> list[TextTable]:
    """The three arms."""
    return [arms_table(ARMS, found)]


PARALLAX_SUMMARY = Experiment(
    name=NAME,
    what="does a bank trained by its energy collapse, and would one slot do as well? (three arms, to look at first)",
    source=SOURCE,
    claims=tuple(claim for claim in CLAIMS if claim.figure in FIGURES),
    sizes={"small": SummaryStudy()},
    measure_in=summary,
    minutes={"small": 2},
    trainings=trainings,
    plots=plots(BANKS),
    tables=tables,
)
