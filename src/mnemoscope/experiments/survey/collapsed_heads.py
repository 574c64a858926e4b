"""Are heads that attend to one place the same head, because the task only needs one?

Two blocks of attention learn recall, with four heads and with one of the same width.

    overlap    of two heads of a block: 1 less the total variation between their weights, the mean over pairs and rows
    undone     loss when every head of the trained network looks where the mean of its block's heads looks

Known limits: values of heads differ even where their weights do not; recall asks for one look-up at a time.

Source: the Parallax note (note 004), "the bigger pattern". What differs: the note has no figures of this case.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor, nn

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured
from mnemoscope.experiments.survey.arms import (
    LARGER_RECALL,
    RECALL,
    Training,
    held_out,
    larger,
    scores,
    targets,
    trained,
)
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.experiments.survey.undoing import undone
from mnemoscope.experiments.trained.truth import held_out_losses
from mnemoscope.memories import Attention
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import Recipe, TrainedRun

MANY, ONE = ARMS = ("four heads", "one head")
N_FORCED = 2
"""First rows, which have little or no choice."""


@dataclass(frozen=True, kw_only=True)
class HeadsStudy:
    """Which sequences, how arms are trained, and heads of each of two blocks."""

    training: Training = field(default_factory=Training)
    task: MqarConfig = RECALL
    n_heads: int = 4


def recipes(settings: HeadsStudy) -> dict[str, Recipe]:
    """Of both arms."""
    return {
        name: settings.training.recall(
            f"collapse-{name.replace(' ', '-')}", f"attention(n_heads={n}, convolution=3) * 2", settings.task
        )
        for name, n in ((MANY, settings.n_heads), (ONE, 1))
    }


def collapsed_heads(settings: HeadsStudy, seed: int, out: Path) -> Measured:
    """Accuracy of both, how alike the heads are, and what undoing their difference costs."""
    arms = recipes(settings)
    found, series = scores(settings.training, arms, seed, out)
    run = trained(settings.training, arms[MANY], seed, out)
    figures = {f"{name}: accuracy": one.accuracy for name, one in found.items()}
    compared = {
        "overlap": overlap(run),
        "undone": undone(run, Attention, same_look, settings.training.n_test),
        "one_cost": found[MANY].accuracy - found[ONE].accuracy,
    }
    return Measured(figures=figures | compared, series=series)


def same_look(weights: Tensor) -> Tensor:
    """The mean over heads of the weights (b, h, t, s) in the place of every head's."""
    return weights.mean(1, keepdim=True).expand_as(weights)


def overlap(run: TrainedRun) -> float:
    """Of all pairs of heads of a block, over rows that have a choice."""
    found = list[Tensor]()

    def listen(module: nn.Module, given: object, weights: Tensor) -> None:
        pairs = combinations(weights[..., N_FORCED:, :].unbind(1), 2)
        found.extend(1 - 0.5 * (one - other).abs().sum(-1).mean() for one, other in pairs)

    points = [module.addressing for module in run.model.modules() if isinstance(module, Attention)]
    handles = [point.register_forward_hook(listen) for point in points]
    held_out_losses(run.model.eval(), held_out(run.task, 64))
    for handle in handles:
        handle.remove()
    return float(torch.stack(found).mean())


def trainings(settings: HeadsStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = HeadsStudy(training=Training(steps=400))
PAPER = HeadsStudy(training=larger(Training()), task=LARGER_RECALL, n_heads=8)
CLAIMS = (
    Claim(figure=f"{MANY}: accuracy", what="accuracy with four heads", published="learned", least=0.95),
    Claim(
        figure="overlap",
        what="overlap of two heads of a block",
        published="attend to one place; ours: half",
        least=0.5,
    ),
    Claim(
        figure="undone",
        what="loss when every head looks where their mean looks (nats)",
        published="nothing; ours: 0.02",
        most=0.02,
    ),
    Claim(figure="one_cost", what="accuracy that one head loses to four", published="nothing; ours: 0.02", most=0.02),
    Claim(figure=f"{ONE}: accuracy", what="accuracy with one head"),
)

STUDY = study(
    Experiment(
        name="survey-collapsed-heads",
        what="are heads that attend to one place the same head, because the task only needs one?",
        source="the Parallax note (note 004), the bigger pattern",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=collapsed_heads,
        trainings=trainings,
    ),
    Finding(
        slug="heads-at-one-place",
        claim="Heads that attend to one place are the same head because the task only needs one",
        source="the Parallax note (note 004)",
        decided_by={
            "undone": "in that all may look where their mean looks",
            "one_cost": "in that one head does as well",
        },
        requires=(f"{MANY}: accuracy", "overlap"),
        if_holds="Take fewer heads instead of a penalty that keeps them apart.",
        if_not="Alike is not the same: what is left of their difference bears. Prune by effect, not by likeness.",
        elsewhere="Tasks of several simultaneous look-ups, in which heads must differ.",
    ),
)
