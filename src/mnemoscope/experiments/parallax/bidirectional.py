"""A bank whose slots look at one another and at the tokens before they are read: does it collapse, is it a bias too?

The note's bank was "attended over by the SC's bidirectional attention head". Where slots see the sequence, what is read
can vary although the slots are one vector, so that this bank may be a memory where the plain one is a bias. A decoder
must be causal: slots see the tokens so far (`memories.energy_bank`). Cortex, text and steps are those of
`parallax-collapse`, whose runs of the cortex alone, of the bank and of one slot are taken from the same folder, or
made.

Source: the Parallax notes, note 004. Bounds are those of `parallax-collapse`. A step takes about six times as long as
one of the plain bank, so that this arm stands by itself.
"""

from collections.abc import Sequence
from pathlib import Path

from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.parallax.arms import LOOKING, TITLES, Arm, CortexStudy
from mnemoscope.experiments.parallax.asked import of_arm, of_deletion
from mnemoscope.experiments.parallax.collapse import SOURCE
from mnemoscope.experiments.parallax.collapse_claims import MARGIN, collapsed, plots
from mnemoscope.experiments.parallax.collapse_tables import arms_table
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Result
from mnemoscope.runs.reproduction import TextTable

ARMS: tuple[Arm, ...] = ("bare", "A0", "A5", LOOKING)
BANKS: tuple[Arm, ...] = ("A0", LOOKING)


def bidirectional(settings: CortexStudy, seed: int, out: Path) -> Measured:
    """Train what is not there yet, look at the banks, delete slots."""
    found = [of_arm(settings, arm, seed, out) for arm in ARMS] + [of_deletion(settings, seed, out, LOOKING)]
    figures, series = dict[str, float](), dict[str, Sequence[float]]()
    for answer in found:
        figures |= answer.figures
        series |= answer.series
    loss = figures[f"{LOOKING}_loss"]
    compared = {
        **{f"{arm}_over_A0": figures[f"{arm}_loss"] - figures["A0_loss"] for arm in ARMS},
        f"{LOOKING}_worth": figures["bare_loss"] - loss,
        "A5_over_looking": figures["A5_loss"] - loss,
    }
    return Measured(figures=figures | compared, series=series)


def trainings(settings: CortexStudy) -> list[Target]:
    """Of one seed, for the planner; all but one are those of `parallax-collapse`."""
    return [planned(settings.recipe(arm)) for arm in ARMS]


def tables(settings: CortexStudy, found: Sequence[Result]) -> list[TextTable]:
    """The four arms."""
    return [arms_table(ARMS, found)]


CLAIMS = (
    *collapsed(LOOKING, "the slots that look"),
    Claim(
        figure=f"{LOOKING}_worth",
        what="what the looking bank is worth: loss of the cortex alone over its own (nats a byte)",
        least=MARGIN,
    ),
    Claim(
        figure="A5_over_looking",
        what="loss of one slot that does not look, over that of the looking bank (nats a byte)",
        published="a bias, replicated: about 0",
        most=MARGIN,
        by_interval=True,
    ),
    *(
        Claim(figure=figure, what=what)
        for figure, what in {
            f"{LOOKING}_over_A0": "loss over that of the plain bank (nats a byte)",
            f"{LOOKING}_read_variance": "share of the reads' energy that varies: looking",
            "A0_read_variance": "share of the reads' energy that varies: plain",
            **{f"{arm}_perplexity": f"perplexity a byte: {TITLES[arm]}" for arm in ARMS},
        }.items()
    ),
)

PARALLAX_BIDIRECTIONAL = Experiment(
    name="parallax-bidirectional",
    what="does a bank whose slots look at the tokens collapse as the plain one does, and would one slot do as well?",
    source=SOURCE,
    claims=CLAIMS,
    sizes={"small": CortexStudy()},
    measure_in=bidirectional,
    minutes={"small": 5.5},
    trainings=trainings,
    plots=plots(BANKS),
    tables=tables,
)
