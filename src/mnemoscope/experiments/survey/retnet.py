"""Do hybrids of RetNet recall, or does a decay that nothing controls lose what attention beside it should keep?

Four blocks of retention, and hybrids in which one or two of four attend; the same with the gated delta rule, which
decides by itself what to forget. All learn recall.

Known limits: four pairs, at most 15 tokens back, where the slowest heads of RetNet have kept most; the source tests
needles in long contexts.

Source: the survey, of "A Systematic Analysis of Hybrid Linear Attention" (arXiv 2507.06457), whose RetNet hybrids
recall nearly nothing. What differs: recall of pairs; the size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey.arms import (
    LARGER_RECALL,
    LIGHT_RECALL,
    Examining,
    Training,
    examined,
    larger,
    scores,
    targets,
    use_of_memory,
    with_prefix,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import Recipe

ATTENTION = "attention(convolution=3)"
MEMORIES = {"retention": "retention(n_heads=2)", "gated delta": "gated_delta(n_heads=2, convolution=3)"}
NONE, QUARTER, HALF = "alone", "1:3", "1:1"


@dataclass(frozen=True, kw_only=True)
class RetnetStudy:
    """Which sequences, how arms are trained, and what an examination costs."""

    training: Training = field(default_factory=Training)
    examining: Examining = field(default_factory=Examining)
    task: MqarConfig = LIGHT_RECALL


def layouts() -> dict[str, str]:
    """By arm."""
    return {
        f"{name} {ratio}": layout
        for name, memory in MEMORIES.items()
        for ratio, layout in {
            NONE: f"({memory}) * 4",
            QUARTER: f"({memory}) * 2, {ATTENTION}, {memory}",
            HALF: f"({memory}, {ATTENTION}) * 2",
        }.items()
    }


def recipes(settings: RetnetStudy) -> dict[str, Recipe]:
    """Of every arm."""
    return {
        name: settings.training.recall(f"four-{name.replace(' ', '-').replace(':', '-to-')}", layout, settings.task)
        for name, layout in layouts().items()
    }


def retnet(settings: RetnetStudy, seed: int, out: Path) -> Measured:
    """Accuracy of every arm; what retention does in the hybrid of one attending block."""
    arms = recipes(settings)
    found, series = scores(settings.training, arms, seed, out)
    figures = {name: one.accuracy for name, one in found.items()}
    hybrid = arms[f"retention {QUARTER}"]
    use = use_of_memory(examined(settings.training, settings.examining, hybrid, seed, out))
    return Measured(figures=figures | with_prefix("retention", use), series=series)


def trainings(settings: RetnetStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


NEARLY_NOTHING = 0.1

CLAIMS = (
    Claim(
        figure=f"gated delta {QUARTER}",
        what="accuracy: gated delta rule, one of four attends",
        published="recalls",
        least=0.9,
    ),
    Claim(
        figure=f"retention {QUARTER}",
        what="accuracy: retention, one of four attends",
        published="near zero",
        most=NEARLY_NOTHING,
    ),
    Claim(
        figure=f"retention {HALF}",
        what="accuracy: retention, two of four attend",
        published="near zero",
        most=NEARLY_NOTHING,
    ),
    Claim(figure=f"retention {NONE}", what="accuracy: retention alone"),
    Claim(figure=f"gated delta {NONE}", what="accuracy: gated delta rule alone"),
    Claim(figure=f"gated delta {HALF}", what="accuracy: gated delta rule, two of four attend"),
    Claim(figure="retention: share", what="share of retention in the 1:3 hybrid"),
    Claim(figure="retention: effect", what="loss without retention in the 1:3 hybrid (nats)"),
)
SMALL = RetnetStudy(
    training=Training(d_model=32, steps=400, learning_rate=1e-2),
    examining=Examining(n_calibration=64, n_test=128, fit_steps=40),
)

STUDY = study(
    Experiment(
        name="survey-retnet",
        what="do hybrids of RetNet and attention recall?",
        source="A Systematic Analysis of Hybrid Linear Attention (arXiv 2507.06457), as the survey quotes it",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": RetnetStudy(training=larger(Training()), task=LARGER_RECALL)},
        measure_in=retnet,
        minutes={"small": 1.8},
        trainings=trainings,
    ),
    Finding(
        slug="retnet-hybrids",
        claim="RetNet recalls nearly nothing even with layers of full attention beside it",
        source="the survey, of arXiv 2507.06457",
        decided_by={
            f"retention {QUARTER}": "with one block of four attending",
            f"retention {HALF}": "with two of four",
        },
        requires=(f"gated delta {QUARTER}",),
        if_holds="Do not pair attention with a memory whose decay the input cannot control.",
        if_not="Attention in the hybrid recalls by itself over distances like these; take another memory for what lies "
        "farther back than the decay.",
        elsewhere="Needles thousands of tokens back, where every head of RetNet has decayed and attention is windowed.",
    ),
)
