"""Does taking whole ways round a memory away, now and then or for good, make a network use the memory?

A hybrid of four blocks, attention and gated delta rules in turn, learns recall again with attention missing in part:

    apart       each attending block is missing for half of the sequences, drawn for each
    together    the same, with one draw for both blocks: nothing but the memory is left
    depth       stochastic depth turned to what is not memory: the second attending block is missing for half of the
                sequences, the first for a quarter
    weakened    attention's way to the output is scaled down to a tenth while the network learns, for good

    share       of the headroom that the memory carries, among memory and attention (Shapley)

Seeds in which the memory carries more than three quarters of the headroom without any of it do not decide.

Known limits: attention stands first, eight pairs are learned at a rate of 3e-3: with the memory first it carried all
in two seeds of three, and so it did of four pairs at 1e-2, which leaves nothing to wake. A gain must show in two thirds
of the seeds. What is left round the memory are feed-forward parts and the residual stream itself, which no arm takes
away.

Source: the survey, of stochastic depth (Huang et al. 2016, arXiv 1603.09382) "applied inversely to non-memory pathways"
and of "removing direct residual connections around memory operations". Dropout of 0.5 and its two draws are those of
the specification's pilot. What differs: the size; attention is weakened to a tenth, not removed, since a network
without it would have no other way at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey.arms import (
    LARGER_RECALL,
    RECALL,
    Examining,
    Training,
    examined,
    gains_of_share,
    larger,
    scores,
    targets,
    use_claims,
    use_of_memory,
    with_prefix,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.window import COUNTS, IDLE, MOST_SEEDS
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import Recipe
from mnemoscope.training.remedies import BranchDropout, Remedy, ShortcutWeakening, StochasticDepth

BASE, APART, TOGETHER, DEPTH, WEAKENED = ARMS = ("base", "apart", "together", "depth", "weakened")
TREATED = ARMS[1:]
LAYOUT = "(attention(convolution=3), gated_delta(n_heads=2, convolution=3)) * 2"
REMEDIES: dict[str, Remedy] = {
    APART: BranchDropout(strength=0.5),
    TOGETHER: BranchDropout(strength=0.5, shared=True),
    DEPTH: StochasticDepth(strength=0.5),
    WEAKENED: ShortcutWeakening(),
}


@dataclass(frozen=True, kw_only=True)
class BranchStudy:
    """Which sequences, how arms are trained, and what an examination costs."""

    training: Training = field(default_factory=Training)
    examining: Examining = field(default_factory=Examining)
    task: MqarConfig = RECALL


def recipes(settings: BranchStudy) -> dict[str, Recipe]:
    """Of every arm."""
    remedies = {BASE: ()} | {name: (remedy,) for name, remedy in REMEDIES.items()}
    return {
        name: settings.training.recall(f"branches-{name}", LAYOUT, settings.task, remedies=given)
        for name, given in remedies.items()
    }


def branches(settings: BranchStudy, seed: int, out: Path) -> Measured:
    """Accuracy of every arm, and what its memory does."""
    arms = recipes(settings)
    found, series = scores(settings.training, arms, seed, out)
    figures = dict[str, float]()
    for name, recipe in arms.items():
        use = use_of_memory(examined(settings.training, settings.examining, recipe, seed, out))
        figures |= with_prefix(name, {"accuracy": found[name].accuracy, **use})
    return Measured(figures=figures | gains_of_share(figures, TREATED, BASE), series=series)


def trainings(settings: BranchStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = BranchStudy(training=Training(steps=1200), examining=Examining(n_calibration=64, n_test=128, fit_steps=40))
PAPER = BranchStudy(training=larger(Training()), task=LARGER_RECALL)
CLAIMS = (
    Claim(figure=f"{BASE}: accuracy", what="accuracy with nothing taken away", published="solved", least=0.95),
    Claim(figure=f"{BASE}: share", what="share of the memory then; there must be room for more", most=IDLE),
    *(
        claim
        for name in TREATED
        for claim in (
            Claim(
                figure=f"{name}_gain",
                what=f"share of the memory: {name} less {BASE}, 0 where it costs more than 2 points of accuracy",
                published="forces use; ours: 10 points",
                least=COUNTS,
                in_seeds=MOST_SEEDS,
            ),
            Claim(figure=f"{name}_cost", what=f"accuracy that it costs: {name}"),
        )
    ),
    *(Claim(figure=f"{name}: accuracy", what=f"accuracy: {name}") for name in TREATED),
    *use_claims(TREATED, [BASE]),
)


def _finding(slug: str, name: str, claim: str, source: str, if_holds: str) -> Finding:
    return Finding(
        slug=slug,
        claim=claim,
        source=source,
        decided_by={f"{name}_gain": "the memory's share rises, and accuracy is not lost"},
        requires=(f"{BASE}: accuracy", f"{BASE}: share"),
        if_holds=if_holds,
        if_not="It does not work in most seeds here: run a trial of your own recipe (`mnemoscope trial`).",
        elsewhere="Dropout that is annealed, longer trainings, and hybrids of language.",
    )


STUDY = study(
    Experiment(
        name="survey-branches",
        what="does taking ways round a memory away, now and then or for good, make a network use the memory?",
        source="the survey, of stochastic depth (arXiv 1603.09382), and its first principle",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=branches,
        minutes={"small": 7.5},
        trainings=trainings,
    ),
    _finding(
        "inverse-stochastic-depth",
        DEPTH,
        "Stochastic depth on what is not memory forces information through the memory",
        "the survey, of Huang et al. 2016 (arXiv 1603.09382)",
        "Add `stochastic_depth(strength=0.5)` to a hybrid whose memory idles.",
    ),
    _finding(
        "branch-dropout",
        APART,
        "Dropping each attending block for half of the sequences makes a network use its memory",
        "the survey, on dropout of non-memory pathways; its strength is that of this project's specification",
        "Add `branch_dropout(strength=0.5)` to a hybrid whose memory idles.",
    ),
    _finding(
        "branch-dropout-together",
        TOGETHER,
        "Dropping all attending blocks at once for half of the sequences makes a network use its memory",
        "the survey, on dropout of non-memory pathways; the shared draw is that of this project's specification",
        "Add `branch_dropout(strength=0.5, shared=True)` to a hybrid whose memory idles.",
    ),
    _finding(
        "weakened-shortcuts",
        WEAKENED,
        "Weakening the direct way round a memory forces a network to use the memory",
        "the survey, its principle that memory be architecturally unavoidable",
        "Add `shortcut_weakening()` to a hybrid whose memory idles.",
    ),
)
