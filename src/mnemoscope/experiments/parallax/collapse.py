"""Memory collapse is a feature, a note says: is it? A bank on real text, the fixes of its collapse, and constants.

The note: after about 1.12M tokens all 128 slots were within a cosine of 0.94, addresses were nearly uniform, and
deleting slots cost nothing; every fix kept the bank diverse and made the model worse, since a moving read left the
manifold of the cortex's states and the gate could not follow. What is tested here, of every seed:

    look         slots, reads and addresses of the trained banks; the line below which a collapse is stable
    deletion     10, 50 and 90 % of the slots taken out of the trained bank
    fixes        loss of every arm, and whether arms with more diverse slots are worth more over the cortex alone
    story        distance of what is said from the cortex's states; gates exchanged between the bank and a spread one,
                 beside the control: the gate of a bank as diverse, which is another training's too
    constants    one slot with and without a gate, and the verdict and the fold of the trained bank itself

The decisive arm is the constant: if one slot does as well, the bank was a bias.

Source: the Parallax notes, note 004; sizes and equations are not public, so the model is a reconstruction
(`models.banked_cortex`). Bounds: cosine 0.94 is the note's; 0.01 nats for "negligible" and "as well" is the margin of
an examination; 0.95 for "nearly uniform" is ours, and so is 0.5 for "diverse", half-way from slots as they are drawn
(A7) to one vector. Where the note gives a direction alone, the interval of the mean over seeds must have that sign.
The bank of the note was read by a bidirectional head; that is `bidirectional`, whose training takes as long as six.
Chosen after a look at the bank of seed 0: batches of 4 windows in place of 16. 1.15M tokens in 560 steps of 16
left the slots nearly where they had been drawn (mean cosine 0.03): the optimiser moves a number by a learning rate a
step, so that it is steps that bring slots together, not tokens. That the bank collapses here was brought about; it
is no evidence for the note.

Every training is kept in its run directory, every answer beside them (`asked`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mnemoscope.experiments.gpu_hours import planned
from mnemoscope.experiments.parallax.arms import Arm
from mnemoscope.experiments.parallax.asked import CollapseStudy, of_arm, of_deletion, of_gates, of_verdict
from mnemoscope.experiments.parallax.collapse_claims import CLAIMS, CONTROLS, DIVERSE, PLOTS, SWAPS
from mnemoscope.experiments.parallax.collapse_tables import arms_table, correlation, over_seeds_table
from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Experiment, Measured, Result
from mnemoscope.runs.reproduction import TextTable

SOURCE = "Parallax notes, note 004, 'Memory collapse is a feature'"


def collapse(settings: CollapseStudy, seed: int, out: Path) -> Measured:
    """Train every arm, and ask all that is asked."""
    cortex = settings.cortex
    found = [of_arm(cortex, arm, seed, out) for arm in settings.arms]
    found.append(of_deletion(cortex, seed, out))
    if "A1" in settings.arms:
        found.append(of_gates(settings, seed, out))
    verdict, judged = of_verdict(settings, seed, out)
    figures = {"tokens": float(cortex.tokens)}
    series = dict[str, Sequence[float]]()
    for answer in (*found, judged):
        figures |= answer.figures
        series |= answer.series
    return Measured(figures=figures | compared(settings.arms, figures), series=series, texts={"verdict": [verdict]})


def compared(arms: Sequence[Arm], figures: Mapping[str, float]) -> dict[str, float]:
    """Losses over that of the bank, gates over their controls, and whether diversity goes with benefit over arms."""
    over = {arm: figures[f"{arm}_loss"] - figures["A0_loss"] for arm in arms}
    found = {f"{arm}_over_A0": value for arm, value in over.items()}
    if {"A5", "A6"} <= over.keys():
        found["gate_worth"] = over["A6"] - over["A5"]
    if "bare" in over:
        found["bank_worth"] = over["bare"]
    if {"A0_distance", "A1_distance"} <= figures.keys():
        found["distance_gained"] = figures["A1_distance"] - figures["A0_distance"]
    swaps, controls = (["{}_with_gate_of_{}".format(*pair) for pair in pairs] for pairs in (SWAPS, CONTROLS))
    found |= {
        f"{arm}_gate_over_control": figures[swap] - figures[control]
        for (arm, _), swap, control in zip(SWAPS, swaps, controls, strict=True)
        if {swap, control} <= figures.keys()
    }
    diverse = [arm for arm in DIVERSE if arm in over]
    if len(diverse) > 2 and "bare" in over:
        diversity = [1 - figures[f"{arm}_cosine"] for arm in diverse]
        found["correlation"] = correlation(diversity, [over["bare"] - over[arm] for arm in diverse])
    return found


def trainings(settings: CollapseStudy) -> list[Target]:
    """Of one seed, for the planner."""
    return [planned(settings.cortex.recipe(arm)) for arm in settings.arms]


def tables(settings: CollapseStudy, found: Sequence[Result]) -> list[TextTable]:
    """Every arm over the seeds; the correlation over all of them with its interval; verdicts."""
    return [arms_table(settings.arms, found), over_seeds_table(settings.arms, found)]


SMALL = CollapseStudy()

PARALLAX_COLLAPSE = Experiment(
    name="parallax-collapse",
    what="does a bank trained by its energy collapse on real text, is the collapse the optimum, was it only a bias?",
    source=SOURCE,
    claims=CLAIMS,
    sizes={"small": SMALL},
    measure_in=collapse,
    minutes={"small": 10},
    trainings=trainings,
    plots=PLOTS,
    tables=tables,
)
