"""Does a state overflow beyond a load, and later where the state is larger?

Networks of `survey-recall-state` (the runs are shared, nothing is trained) are tested on fewer and on more pairs than
the 8 that they learned with, in sequences that grow with the load:

    fall    accuracy at the smallest load less that at the largest

Full attention, which keeps every token, is the control: where it falls too, sequences were too long for any network
that learned shorter ones, and the ladder says nothing of states. A state must recall at the smallest load to fall.

Known limits: networks were trained at one load, so that a fall mixes what a state can hold with what it learned to
write; two mechanisms.

Source: the survey, its principle on "state capacity"; that 20 points are a fall is the specification's row on saturated
memories. What differs: the survey has no figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey import recall_state
from mnemoscope.experiments.survey.arms import held_out, targets, trained
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.recall_state import CEILING, HEADS, NOISE, RecallState
from mnemoscope.experiments.trained.truth import held_out_losses
from mnemoscope.tasks import build_task
from mnemoscope.training import Recipe, TrainedRun

KINDS = ("linear attention", "delta net")
SMALLEST, LARGEST = max(HEADS), min(HEADS)
"""Heads of the smallest and of the largest state."""
FALL = 0.2


@dataclass(frozen=True, kw_only=True)
class OverflowStudy:
    """The study whose networks are tested, the loads in pairs, the fewest first, and how many sequences of each."""

    recall: RecallState = field(default_factory=RecallState)
    loads: tuple[int, ...] = (2, 4, 8, 16)
    n_test: int = 256


def recipes(settings: OverflowStudy) -> dict[str, Recipe]:
    """Of the control, and of the smallest and the largest state of each kind."""
    names = (CEILING, *(f"{kind} {h}" for kind in KINDS for h in (SMALLEST, LARGEST)))
    return {name: recipe for name, recipe in recall_state.recipes(settings.recall).items() if name in names}


def overflow(settings: OverflowStudy, seed: int, out: Path) -> Measured:
    """Accuracy of every network at every load, and how far it falls."""
    figures = dict[str, float]()
    series: dict[str, Sequence[float]] = {"load": [float(load) for load in settings.loads]}
    for name, recipe in recipes(settings).items():
        run = trained(settings.recall.training, recipe, seed, out)
        ladder = [at_load(run, settings, load) for load in settings.loads]
        series[f"{name}: accuracy"] = ladder
        figures |= {f"{name}: first": ladder[0], f"{name}: last": ladder[-1], f"{name}: fall": ladder[0] - ladder[-1]}
    for kind in KINDS:
        small, large = f"{kind} {SMALLEST}", f"{kind} {LARGEST}"
        figures[f"{kind}: spared"] = figures[f"{small}: fall"] - figures[f"{large}: fall"]
    return Measured(figures=figures, series=series)


def at_load(run: TrainedRun, settings: OverflowStudy, load: int) -> float:
    """Accuracy on sequences of so many pairs, no shorter than those that were learned."""
    given = settings.recall.task
    task = replace(given, n_pairs=load, length=max(given.length, given.length * load // given.n_pairs))
    return float(held_out_losses(run.model.eval(), held_out(build_task(task), settings.n_test))[1].mean())


def trainings(settings: OverflowStudy) -> Sequence[Target]:
    """Of one seed, for the planner; they are those of `survey-recall-state`."""
    return targets(recipes(settings).values())


SMALL = OverflowStudy(recall=recall_state.SMALL)
PAPER = OverflowStudy(recall=recall_state.STUDY.experiment.sizes["paper"], loads=(8, 16, 32, 64, 128), n_test=2048)
ARMS = tuple(recipes(SMALL))
CLAIMS = (
    Claim(figure=f"{CEILING}: last", what="accuracy at the largest load: full attention", published="1.0", least=0.9),
    *(
        claim
        for kind in KINDS
        for claim in (
            Claim(
                figure=f"{kind} {SMALLEST}: first",
                what=f"accuracy at the smallest load: {kind}, smallest state",
                published="recalls",
                least=0.8,
            ),
            Claim(
                figure=f"{kind} {SMALLEST}: fall",
                what=f"fall of accuracy over the loads: {kind}, smallest state",
                published="overflows; ours: 20 points",
                least=FALL,
            ),
            Claim(
                figure=f"{kind}: spared",
                what=f"the same less the fall of the largest state: {kind}",
                published="capacity grows with the state; ours: by more than noise, 5 points",
                least=NOISE,
            ),
        )
    ),
    *(Claim(figure=f"{name}: last", what=f"accuracy at the largest load: {name}") for name in ARMS if name != CEILING),
    *(Claim(figure=f"{k} {LARGEST}: fall", what=f"fall of accuracy over the loads: {k}, largest state") for k in KINDS),
)


def _finding(kind: str) -> Finding:
    return Finding(
        slug=f"states-overflow-{kind.replace(' ', '-')}",
        claim=f"The state of {kind} overflows beyond a load, and later the larger it is",
        source="the survey, its principle on state capacity",
        decided_by={
            f"{kind} {SMALLEST}: fall": "the smallest state loses 20 points from the smallest load to the largest",
            f"{kind}: spared": "the largest state loses less",
        },
        requires=(f"{CEILING}: last", f"{kind} {SMALLEST}: first"),
        if_holds="Find the load at which accuracy falls, and keep the state above what your data ask for.",
        if_not="More pairs than were learned do not overflow this state by themselves: look at how it is written.",
        elsewhere="Networks trained at every load by themselves, which a ladder of trainings would take.",
    )


STUDY = study(
    Experiment(
        name="survey-overflow",
        what="does a state overflow beyond a load, and later where the state is larger?",
        source="the survey, its principle on state capacity",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=overflow,
        minutes={"small": 0.1},
        trainings=trainings,
        plots=(
            Plot(
                title="Accuracy by load",
                caption="Networks that learned one load, tested on others; heads stand behind the mechanism, the more "
                "of them, the smaller the state.",
                y_label="accuracy",
                x="load",
                x_label="pairs of a sequence",
                log_x=True,
                lines={name: f"{name}: accuracy" for name in ARMS},
            ),
        ),
    ),
    *map(_finding, KINDS),
)
