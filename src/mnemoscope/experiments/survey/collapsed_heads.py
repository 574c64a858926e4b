"""Are heads that attend to one place the same head, because the task only needs one?

Two blocks of attention learn recall, with four heads and with one of the same width.

    peaked     share of the rows in which one of two heads of a block puts more than half of its weight on one place
    overlap    of two heads in these rows: 1 less the total variation between their weights; mean over pairs and rows
    undone     loss when every head of the trained network looks where the mean of its block's heads looks
    uniform    loss when every head looks everywhere alike

Heads that look everywhere overlap as well, and untrained ones do (0.9 and more over all rows, which is why rows without
a place are left out); and nothing is lost by their mean where nothing is lost by looking everywhere. So rows with a
place must be there, and losing them must cost.

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
PEAK = 0.5
NOTHING = 0.02
"""Nats, or accuracy, that count as none."""


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
    peaked, alike = overlap(run)
    compared = {
        "peaked": peaked,
        "overlap": alike,
        "uniform": undone(run, Attention, uniform_look, settings.training.n_test),
        "undone": undone(run, Attention, same_look, settings.training.n_test),
        "one_cost": found[MANY].accuracy - found[ONE].accuracy,
    }
    return Measured(figures=figures | compared, series=series)


def same_look(weights: Tensor) -> Tensor:
    """The mean over heads of the weights (b, h, t, s) in the place of every head's."""
    return weights.mean(1, keepdim=True).expand_as(weights)


def uniform_look(weights: Tensor) -> Tensor:
    """Every place that has been, alike, in the place of the weights (b, h, t, s)."""
    t, s = weights.shape[-2:]
    visible = torch.ones(t, s, dtype=weights.dtype, device=weights.device).tril(s - t)
    return (visible / visible.sum(-1, keepdim=True)).expand_as(weights)


def overlap(run: TrainedRun) -> tuple[float, float]:
    """Of all pairs of heads of a block: share of the rows in which one is peaked, and overlap in these.

    Rows without a choice do not count; the overlap is NaN where no row is peaked.
    """
    peaks, found = list[Tensor](), list[Tensor]()

    def listen(module: nn.Module, given: object, weights: Tensor) -> None:
        for one, other in combinations(weights[..., N_FORCED:, :].unbind(1), 2):
            peaked = torch.maximum(one, other).amax(-1) > PEAK
            peaks.append(peaked.flatten())
            found.append((1 - 0.5 * (one - other).abs().sum(-1))[peaked])

    points = [module.addressing for module in run.model.modules() if isinstance(module, Attention)]
    handles = [point.register_forward_hook(listen) for point in points]
    held_out_losses(run.model.eval(), held_out(run.task, 64))
    for handle in handles:
        handle.remove()
    return float(torch.cat(peaks).double().mean()), float(torch.cat(found).mean())


def trainings(settings: HeadsStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = HeadsStudy(training=Training(steps=250))
PAPER = HeadsStudy(training=larger(Training()), task=LARGER_RECALL, n_heads=8)
CLAIMS = (
    Claim(figure=f"{MANY}: accuracy", what="accuracy with four heads", published="learned", least=0.95),
    Claim(
        figure="peaked",
        what="share of rows in which one of two heads looks at one place",
        published="there are such heads; ours: 5 %",
        least=0.05,
    ),
    Claim(
        figure="uniform",
        what="loss when every head looks everywhere alike (nats)",
        published="the looks bear; ours: ten times what counts as nothing",
        least=10 * NOTHING,
    ),
    Claim(
        figure="overlap",
        what="overlap of two heads of a block in these rows",
        published="attend to one place; ours: half",
        least=0.5,
    ),
    Claim(
        figure="undone",
        what="loss when every head looks where their mean looks (nats)",
        published="nothing; ours: 0.02",
        most=NOTHING,
    ),
    Claim(
        figure="one_cost", what="accuracy that one head loses to four", published="nothing; ours: 0.02", most=NOTHING
    ),
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
        minutes={"small": 0.3},
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
        requires=(f"{MANY}: accuracy", "peaked", "uniform", "overlap"),
        if_holds="Take fewer heads instead of a penalty that keeps them apart.",
        if_not="Alike is not the same: what is left of their difference bears. Prune by effect, not by likeness.",
        elsewhere="Tasks of several simultaneous look-ups, in which heads must differ.",
    ),
)
