"""Can nine tenths of a memory's weights be pruned without loss, if the rest is trained again from its first values?

The hybrid of `survey-window` with the window of 4 tokens, whose memory is its only far route (the run is shared), is
pruned by magnitude in the memory's matrices, rewound and trained again (`trained.lottery`): nine tenths of them, and
all of them, which is the control: what nothing is lost by removing cannot be pruned too far.

Known limits: one memory of one network, pruned in one shot; the source prunes whole networks in rounds. It says that a
smaller memory would do, not that these first values matter.

Source: Frankle & Carbin 2019 (arXiv 1803.03635), as the survey quotes it: "pruned by 90%+ without accuracy loss". What
differs: recall; "without loss" is 0.02 nats here, at the upper end of the interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey import window
from mnemoscope.experiments.survey.arms import folder_of, score, targets, trained
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.window import NARROW, WindowStudy
from mnemoscope.experiments.trained.lottery import LOTTERY, Lottery, LotteryConfig, lottery
from mnemoscope.runs import read_record
from mnemoscope.training import Recipe

SHARE = 0.9
NOTHING = 0.02
"""Nats that count as no loss."""


@dataclass(frozen=True, kw_only=True)
class TicketStudy:
    """The study whose hybrid is pruned."""

    window: WindowStudy = field(default_factory=WindowStudy)

    @property
    def recipe(self) -> Recipe:
        """Of the hybrid."""
        return window.recipes(self.window)[NARROW]


def tickets(settings: TicketStudy, seed: int, out: Path) -> Measured:
    """What the loss changes by when the memory is pruned in part and altogether."""
    training, recipe = settings.window.training, settings.recipe
    run = trained(training, recipe, seed, out)
    folder = folder_of(out, recipe, seed)
    part, whole = _pruned(folder, LotteryConfig(shares=(SHARE, 1.0), n_test=training.n_test)).tickets
    figures = {
        "accuracy": score(run, training.n_test).accuracy,
        "pruned": part.change.value,
        "pruned_most": part.change.high,
        "removed": whole.change.low,
        "weights": float(part.n_kept),
    }
    return Measured(figures=figures)


def _pruned(folder: Path, config: LotteryConfig) -> Lottery:
    """Both shares, from the run's folder if they are there."""
    kept = folder / "lottery"
    if (kept / LOTTERY).exists():
        found = read_record(kept / LOTTERY, Lottery)
        if [ticket.share for ticket in found.tickets] == list(config.shares):
            return found
    return lottery(folder, kept, config, _quiet)


def _quiet(line: str) -> None:
    pass


def trainings(settings: TicketStudy) -> Sequence[Target]:
    """Of one seed, for the planner; every share is one more training like it."""
    return targets([settings.recipe])


SMALL = TicketStudy(window=window.SMALL)
CLAIMS = (
    Claim(figure="accuracy", what="accuracy of the whole network", published="learned", least=0.95),
    Claim(
        figure="removed",
        what="loss when nothing of the memory is left and it is trained again, lower end (nats)",
        published="the memory is needed; ours: ten times what counts as nothing",
        least=10 * NOTHING,
    ),
    Claim(
        figure="pruned_most",
        what="loss when a tenth of its weights is left and it is trained again, upper end (nats)",
        published="none; ours: 0.02",
        most=NOTHING,
    ),
    Claim(figure="pruned", what="the same, the mean (nats)"),
    Claim(figure="weights", what="weights of the memory that are left"),
)

STUDY = study(
    Experiment(
        name="survey-tickets",
        what="can nine tenths of a memory's weights be pruned without loss, if the rest is trained again?",
        source="Frankle & Carbin 2019 (arXiv 1803.03635)",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": TicketStudy(window=window.STUDY.experiment.sizes["paper"])},
        measure_in=tickets,
        minutes={"small": 1.3},
        trainings=trainings,
    ),
    Finding(
        slug="lottery-tickets",
        claim="Nine tenths of a memory's weights can be pruned without loss, if the rest is trained again",
        source="Frankle & Carbin 2019 (arXiv 1803.03635), of whole networks, as the survey quotes it",
        decided_by={"pruned_most": "the loss is no worse"},
        requires=("accuracy", "removed"),
        if_holds="Build the memory narrower: it has far more weights than the task needs.",
        if_not="The memory's weights are needed: prune less, and measure the loss at every share.",
        elsewhere="Pruning in rounds, larger memories, and whole networks, of which the source speaks.",
    ),
)
