"""Does a bottleneck on the way round a memory force the network to use the memory?

The hybrid of `survey-window` whose attention sees everything and stands before the memory, which idles there (its run
is shared), learns recall again with less room in what attention contributes:

    variational    noise of a learned size, and a price on every nat that passes, from 1e-4 to 1e-2
    dear           the same at a price from 1e-2 to 1
    noise          noise half as large as the contribution
    rank           four directions out of 64

Seeds in which the memory carries more than three quarters of the headroom without a bottleneck do not decide: there is
nothing to force.

Known limits: a bottleneck acts on attention alone; blocks' own skips and feed-forward parts are left, since memory and
attention both write to them. As in `survey-window`, seeds differ much.

Source: the survey, of the information bottleneck, I(Z, Y) - beta I(Z, X); Alemi et al. 2017 (arXiv 1612.00410). What
differs: no source tries it on a memory; the bar is that of `survey-window`, where accuracy is not lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey import window
from mnemoscope.experiments.survey.arms import (
    examined,
    gains_of_share,
    scores,
    targets,
    use_claims,
    use_of_memory,
    with_prefix,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.window import COUNTS, IDLE, LAST_WIDE, MOST_SEEDS, WindowStudy, memory_last
from mnemoscope.training import Recipe
from mnemoscope.training.remedies import BottleneckNoise, BottleneckRank, BottleneckVariational, Remedy

FREE, VARIATIONAL, DEAR, NOISE, RANK = ARMS = ("free", "variational", "dear", "noise", "rank")
NARROWED = ARMS[1:]


@dataclass(frozen=True, kw_only=True)
class BottleneckStudy:
    """The hybrid, and what narrows its attention.

    Args:
        window: the study whose arm it is.
        beta: largest price of a nat; of `dear`, a hundred times as much.
        noise: standard deviation over the root mean square of a contribution.
        rank: directions that are left.
    """

    window: WindowStudy = field(default_factory=WindowStudy)
    beta: float = 1e-2
    noise: float = 0.5
    rank: int = 4

    @property
    def remedies(self) -> dict[str, Remedy]:
        """By arm."""
        return {
            VARIATIONAL: BottleneckVariational(strength=self.beta / 100, final_strength=self.beta),
            DEAR: BottleneckVariational(strength=self.beta, final_strength=100 * self.beta),
            NOISE: BottleneckNoise(strength=self.noise),
            RANK: BottleneckRank(rank=self.rank),
        }


def recipes(settings: BottleneckStudy) -> dict[str, Recipe]:
    """Of every arm."""
    given = settings.window
    arms = {
        name: memory_last(given, f"bottleneck-{name}", given.task.length, (remedy,))
        for name, remedy in settings.remedies.items()
    }
    return {FREE: window.recipes(given)[LAST_WIDE]} | arms


def bottleneck(settings: BottleneckStudy, seed: int, out: Path) -> Measured:
    """Accuracy of every arm, and what its memory does."""
    arms, given = recipes(settings), settings.window
    found, series = scores(given.training, arms, seed, out)
    figures = dict[str, float]()
    for name, recipe in arms.items():
        use = use_of_memory(examined(given.training, given.examining, recipe, seed, out))
        figures |= with_prefix(name, {"accuracy": found[name].accuracy, **use})
    return Measured(figures=figures | gains_of_share(figures, NARROWED, FREE), series=series)


def trainings(settings: BottleneckStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = BottleneckStudy(window=window.SMALL)
PAPER = BottleneckStudy(window=window.STUDY.experiment.sizes["paper"], rank=8)
CLAIMS = (
    Claim(figure=f"{FREE}: accuracy", what="accuracy without a bottleneck", published="solved", least=0.95),
    Claim(figure=f"{FREE}: share", what="share of the memory without one; there must be room for more", most=IDLE),
    *(
        claim
        for name in NARROWED
        for claim in (
            Claim(
                figure=f"{name}_gain",
                what=f"share of the memory: {name} less {FREE}, 0 where it costs more than 2 points of accuracy",
                published="forces use; ours: 10 points",
                least=COUNTS,
                in_seeds=MOST_SEEDS,
            ),
            Claim(figure=f"{name}_cost", what=f"accuracy that it costs: {name}"),
        )
    ),
    *(Claim(figure=f"{name}: accuracy", what=f"accuracy: {name}") for name in NARROWED),
    *use_claims(NARROWED, [FREE]),
)

STUDY = study(
    Experiment(
        name="survey-bottleneck",
        what="does a bottleneck on the way round a memory force the network to use the memory?",
        source="the survey, of the information bottleneck; Alemi et al. 2017 (arXiv 1612.00410)",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=bottleneck,
        minutes={"small": 4.5},
        trainings=trainings,
    ),
    Finding(
        slug="information-bottleneck",
        claim="An information bottleneck on the way round a memory forces information through the memory",
        source="the survey, of Alemi et al. 2017 (arXiv 1612.00410)",
        decided_by={
            "variational_gain": "at a price of up to 0.01 a nat",
            "dear_gain": "at a price of up to 1 a nat",
        },
        requires=(f"{FREE}: accuracy", f"{FREE}: share"),
        if_holds="Add `bottleneck_variational` to a hybrid whose memory idles, and check accuracy.",
        if_not="A price on attention does not move the work into the memory here: drop windows instead, or examine.",
        elsewhere="A bottleneck on the residual stream itself, and prices tuned to a task.",
    ),
    Finding(
        slug="cruder-bottlenecks",
        claim="Noise or a low rank on the way round a memory does the same",
        source="the survey, its principle that memory be architecturally unavoidable",
        decided_by={
            "noise_gain": "with noise",
            "rank_gain": "with a low rank",
        },
        requires=(f"{FREE}: accuracy", f"{FREE}: share"),
        if_holds="Take the cheaper of the two that keeps accuracy.",
        if_not="Attention does with little room: narrow its window, which leaves it no way at all.",
        elsewhere="Other strengths; a rank below what the keys need.",
    ),
)
