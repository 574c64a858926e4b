"""Does the gradient thin out on its way through an NTM, and does less of it reach the past than through linear mixers?

One block of a machine, or of a mixer, learns to copy vectors of bits; an answer can only come through it. Before and
after training, by one backward pass:

    reach    gradient at the token that holds an answer, over that at the token where it is asked (norms)
    stages   gradient times value of the NTM's contribution, read, weights and input, over that of the contribution

The gradient at the token where it is asked comes by the direct path, along the residual stream. The machine is the one
whose memory starts random: from 1e-6 everywhere, the published start, look-ups begin without a gradient, and more of it
arrives at the input than at the weights. Before training every reach is small, since nothing is bound yet, so that what
is said of direct paths is decided after it, of the networks that learned to copy: of half of the bits that guessing
gets wrong, and more.

Known limits: a norm is no measure of what is learned from it; the optimiser rescales gradients anyway. Stages are those
that are announced: key, similarity and softmax are between weights and input.

Source: the survey, "the memory pathway involves five multiplicative stages, each stage dilutes gradients
multiplicatively"; the product with the value is the specification's gradient share (D13). What differs: no source gives
a figure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey import ntm_start
from mnemoscope.experiments.survey.arms import targets, trained
from mnemoscope.experiments.survey.bits import all_learned, of_bits
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.gradients import STAGES, reach, stages
from mnemoscope.experiments.survey.ntm_start import RANDOM, NtmStartStudy
from mnemoscope.models import Stack, build_model
from mnemoscope.tasks import build_task
from mnemoscope.training import Recipe

NTM = "ntm"
LAYOUTS = {
    "linear attention": "linear_attention(n_heads=2, convolution=3)",
    "gated delta": "gated_delta(n_heads=2, convolution=3)",
    "attention": "attention(n_heads=2, convolution=3)",
}
LINEAR = ("linear attention", "gated delta")
ARMS = (NTM, *LAYOUTS)
WHEN = ("before", "after")
HALF = 0.5
"""Part of the errors of guessing that a network that learned to copy does not make."""


@dataclass(frozen=True, kw_only=True)
class DilutionStudy:
    """The study whose NTM is shared, and how many sequences a gradient is of."""

    machine: NtmStartStudy = field(default_factory=NtmStartStudy)
    n_test: int = 128

    @property
    def guessing(self) -> float:
        """Bit errors of a sequence, half of its bits being right by chance."""
        task = self.machine.task
        return 0.5 * task.n_bits * (task.min_length + task.max_length) / 2


def recipes(settings: DilutionStudy) -> dict[str, Recipe]:
    """Of every arm."""
    given = settings.machine
    mixers = {
        name: of_bits(given.training, f"dilution-{name.replace(' ', '-')}", layout, given.task)
        for name, layout in LAYOUTS.items()
    }
    return {NTM: ntm_start.recipes(given)[RANDOM]} | mixers


def dilution(settings: DilutionStudy, seed: int, out: Path) -> Measured:
    """Reach of every arm and stages of the NTM, before and after training."""
    arms, training = recipes(settings), settings.machine.training
    found, series = all_learned(training, arms, seed, out)
    figures = {f"{name}: errors": one.errors for name, one in found.items()}
    figures |= {f"{name}: learned": 1 - one.errors / settings.guessing for name, one in found.items()}
    for name, recipe in arms.items():
        models = build_model(recipe.model, seed), trained(training, recipe, seed, out).model
        for when, model in zip(WHEN, models, strict=True):
            assert isinstance(model, Stack)
            task = build_task(recipe.task)
            figures[f"{name} {when}: reach"] = reach(model, task, settings.n_test)
            if name == NTM:
                strengths = stages(model, task, settings.n_test)
                figures |= {f"{stage} {when}": value for stage, value in strengths.items()}
    return Measured(figures=figures | compared(figures), series=series)


def compared(figures: dict[str, float]) -> dict[str, float]:
    """What the claims ask."""
    learned = [name for name in ARMS if figures[f"{name}: learned"] >= HALF]
    among = {"before": LINEAR, "after": tuple(name for name in LINEAR if name in learned)}
    linear = {when: min((figures[f"{name} {when}: reach"] for name in among[when]), default=math.nan) for when in WHEN}
    left = [figures[f"{stage} before"] for stage in STAGES]
    return {
        "largest_stage": max(after / max(before, 1e-30) for before, after in pairwise(left)),
        "largest_reach": max((figures[f"{name} after: reach"] for name in learned), default=math.nan),
        "linear: learned": max(figures[f"{name}: learned"] for name in LINEAR),
        "best: learned": max(figures[f"{name}: learned"] for name in ARMS),
        **{f"against_linear {when}": figures[f"{NTM} {when}: reach"] / max(linear[when], 1e-30) for when in WHEN},
    }


def trainings(settings: DilutionStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = DilutionStudy(machine=ntm_start.SMALL)
PAPER = DilutionStudy(machine=ntm_start.PAPER)
CLAIMS = (
    *(
        Claim(
            figure=f"{name}: learned",
            what=f"errors below those of guessing (part of them): {called}",
            published="learned; ours: half",
            least=HALF,
        )
        for name, called in ((NTM, NTM), ("linear", "the better of the linear mixers"), ("best", "the best arm"))
    ),
    Claim(
        figure="largest_stage",
        what="largest ratio of a stage to the one before it, before training",
        published="each dilutes: below 1",
        most=1.0,
    ),
    Claim(
        figure="largest_reach",
        what="largest reach after training, of the arms that learned",
        published="direct paths have the stronger gradient: below 1",
        most=1.0,
    ),
    *(
        Claim(
            figure=f"against_linear {when}",
            what=f"reach of the NTM over the lower of the linear mixers', {when} training"
            + (", of those that learned" if when == "after" else ""),
            published="more stages, less gradient; ours: half",
            most=0.5,
        )
        for when in WHEN
    ),
    *(Claim(figure=f"{name} {when}: reach", what=f"reach {when} training: {name}") for name in ARMS for when in WHEN),
    *(Claim(figure=f"{stage} {when}", what=f"{stage} of the NTM {when} training") for stage in STAGES for when in WHEN),
    *(Claim(figure=f"{name}: errors", what=f"bit errors a sequence: {name}") for name in ARMS),
)

STUDY = study(
    Experiment(
        name="survey-dilution",
        what="does the gradient thin out through an NTM's stages, and does less reach the past than by linear mixers?",
        source="the survey, its claim of gradient dilution",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=dilution,
        minutes={"small": 0.4},
        trainings=trainings,
        plots=(
            Plot(
                title="Errors through training",
                caption="Bit errors a sequence, of validation sequences: what the gradients led to.",
                y_label="bit errors a sequence",
                lines={name: f"{name}: step -> {name}: errors" for name in ARMS},
            ),
        ),
    ),
    Finding(
        slug="gradient-dilution",
        claim="Each stage of an addressed memory dilutes the gradient, so that less reaches what it should store",
        source="the survey, its core claim",
        decided_by={
            "largest_stage": "in that every stage passes less than the one before",
            "against_linear before": "before training, against linear mixers",
            "against_linear after": "after training, against linear mixers",
        },
        requires=(f"{NTM}: learned", "linear: learned"),
        if_holds="Give the memory a larger learning rate, or a loss of its own (`reconstruction`), at the start.",
        if_not="Do not blame stages of the read for an idle memory: look for the shortcut that it has.",
        elsewhere="Machines of the published size over hundreds of tokens, and DNCs, whose links add stages.",
    ),
    Finding(
        slug="direct-paths-win",
        claim="Direct paths carry the stronger gradient than any way through a memory",
        source="the survey, its core claim",
        decided_by={"largest_reach": "after training, no mixer that learned lets more reach the past"},
        requires=("best: learned",),
        if_holds="Expect what the present token tells to be learned first, and judge the memory only after that.",
        if_not="Some mixers reach the past as strongly as the present: choose among them where memory is what counts.",
        elsewhere="Many blocks, through which direct paths add up.",
    ),
)
