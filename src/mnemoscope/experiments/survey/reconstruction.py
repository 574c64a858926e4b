"""Do losses of reconstruction and of prediction teach an LSTM to hold what it must copy?

An LSTM learns to copy vectors of bits of one length: nothing is asked before all has been read. Beside the task's loss,
a small decoder says from its state the inputs before a random position, or those after it.

    alone      the loss of reconstruction a hundred times as heavy, so that next to nothing is learned from the task
    stored     bits that a ridge probe reads from the state at the delimiter, of held-out sequences: 0.5 by chance

Known limits: a linear probe misses what is stored otherwise. The length (14) was chosen after a look at one
seed of 10 vectors, which the plain LSTM and the one with reconstruction both learned nearly without errors.
Both losses are joint from the start; the source trains on them first. No recipe here leaves the task's loss out
altogether, so that "alone" is a hundredth of it; what is stored so is held against the same LSTM untrained, whose state
holds some bits by itself.

Source: Trinh, Dai, Luong, Le 2018 (arXiv 1803.00144), weight 1. What differs: copying in place of labels for up to
16,000 inputs; backpropagation through the whole sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey.arms import Training, larger, targets, trained
from mnemoscope.experiments.survey.bits import all_learned, of_bits
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.memories import LSTM
from mnemoscope.models import build_model
from mnemoscope.tasks import CopyingConfig, task_rng
from mnemoscope.tasks.streams import Split
from mnemoscope.training import Recipe, TrainedRun
from mnemoscope.training.remedies import Prediction, Reconstruction, Remedy

PLAIN, BACKWARDS, AHEAD, ALONE = ARMS = ("plain", "reconstruction", "prediction", "alone")
HEAVY = 100.0
"""Weight of the loss of reconstruction over the task's where it is to be alone."""
ROOM = 0.9
RIDGE = 1.0


@dataclass(frozen=True, kw_only=True)
class ReconstructionStudy:
    """What is copied, how arms are trained, and the losses beside.

    Args:
        training: of every arm.
        task: what is copied; all sequences of one length.
        width: cells of the LSTM.
        weight: of the loss beside.
        decoder: width of the decoder.
    """

    training: Training = field(default_factory=Training)
    task: CopyingConfig = field(default_factory=lambda: CopyingConfig(n_bits=2, min_length=14, max_length=14))
    width: int = 64
    weight: float = 1.0
    decoder: int = 64

    def remedies(self, name: str) -> tuple[Remedy, ...]:
        """The loss beside, of an arm."""
        span = self.task.max_length
        match name:
            case "reconstruction":
                return (Reconstruction(strength=self.weight, point="state", span=span, hidden=self.decoder),)
            case "prediction":
                return (Prediction(strength=self.weight, point="state", span=span, hidden=self.decoder),)
            case "alone":
                return (Reconstruction(strength=HEAVY, point="state", span=span, hidden=self.decoder),)
            case _:
                return ()


def recipes(settings: ReconstructionStudy) -> dict[str, Recipe]:
    """Of every arm."""
    return {
        name: of_bits(
            settings.training,
            f"long-copy-{name}",
            f"lstm(width={settings.width})",
            settings.task,
            remedies=settings.remedies(name),
        )
        for name in ARMS
    }


def reconstruction(settings: ReconstructionStudy, seed: int, out: Path) -> Measured:
    """Errors of every arm, when they became few, and what is stored."""
    arms = recipes(settings)
    found, series = all_learned(settings.training, arms, seed, out)
    errors = {name: one.errors for name, one in found.items()}
    figures = {f"{name}: errors": error for name, error in errors.items()}
    figures |= {f"{name}: steps": one.steps for name, one in found.items()}
    for name, recipe in arms.items():
        run = trained(settings.training, recipe, seed, out)
        figures[f"{name}: stored"] = stored(run, settings.training.n_test)
        if name == ALONE:
            fresh = replace(run, model=build_model(recipe.model, seed))
            figures["untrained: stored"] = stored(fresh, settings.training.n_test)
    figures["alone_stored"] = figures[f"{ALONE}: stored"] - figures["untrained: stored"]
    plain = max(errors[PLAIN], 1e-9)
    for name in (BACKWARDS, AHEAD):
        figures[f"{name}_gain"] = 1 - errors[name] / plain
        figures[f"{name}_stored"] = figures[f"{name}: stored"] - figures[f"{PLAIN}: stored"]
    figures["left"] = errors[PLAIN]
    return Measured(figures=figures, series=series)


def stored(run: TrainedRun, n: int) -> float:
    """The share of bits that a probe reads from the state at the delimiter; fitted on validation, read on test."""
    return readable(*states(run, "validation", n), *states(run, "test", n))


def readable(
    fitted: Float[Tensor, "n s"],
    known: Float[Tensor, "n bits"],
    tried: Float[Tensor, "m s"],
    bits: Float[Tensor, "m bits"],
) -> float:
    """The share of bits that ridge regression on n states finds from m others."""
    x, other = (torch.cat([part, part.new_ones(len(part), 1)], 1) for part in (fitted, tried))
    weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (2 * known - 1))
    return float((((other @ weights) >= 0) == (bits > 0)).double().mean())


@torch.no_grad()
def states(run: TrainedRun, split: Split, n: int) -> tuple[Float[Tensor, "n s"], Float[Tensor, "n bits"]]:
    """The LSTM's state at the delimiter, and the bits before it."""
    inputs = torch.as_tensor(run.task.batch(task_rng(0, split, 0), n, split).inputs)
    length = int(inputs[0, :, -1].argmax())
    held = list[Tensor]()
    (memory,) = (module for module in run.model.modules() if isinstance(module, LSTM))
    handle = memory.state.register_forward_hook(lambda module, given, state: held.append(state[:, length].flatten(1)))
    run.model.eval()(inputs.to(next(run.model.parameters()).device))
    handle.remove()
    return held[0].double().cpu(), inputs[:, :length, :-1].flatten(1).double()


def trainings(settings: ReconstructionStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = ReconstructionStudy(training=Training(d_model=32, mlp_ratio=0.0, steps=1200, learning_rate=1e-2))
PAPER = ReconstructionStudy(
    training=larger(Training(mlp_ratio=0.0)),
    task=CopyingConfig(n_bits=4, min_length=100, max_length=100),
    width=256,
    decoder=256,
)
NAMES = {BACKWARDS: "reconstruction", AHEAD: "prediction"}
CLAIMS = (
    Claim(
        figure="left",
        what="bit errors a sequence that are left without such a loss",
        published="long dependencies are missed; ours: 0.1",
        least=0.1,
    ),
    *(
        claim
        for name, called in NAMES.items()
        for claim in (
            Claim(
                figure=f"{name}_gain",
                what=f"part of the errors that {called} takes away",
                published="learns what is missed; ours: 0.1",
                least=0.1,
            ),
            Claim(
                figure=f"{name}_stored",
                what=f"share of bits stored with {called}, less that without",
                published="forces encoding; ours: 0.02",
                least=0.02,
            ),
        )
    ),
    Claim(
        figure="untrained: stored",
        what="share of bits that a probe reads before training; there must be room for more",
        most=ROOM,
    ),
    Claim(
        figure="alone_stored",
        what="share of bits stored with next to nothing but reconstruction, less that before training",
        published="40 % of ten classes, 30 points above chance; ours: 0.02",
        least=0.02,
    ),
    *(
        Claim(figure=f"{name}: {figure}", what=f"{what}: {name}")
        for name in ARMS
        for figure, what in (
            ("errors", "bit errors a sequence"),
            ("steps", "steps until errors are few"),
            ("stored", "share of bits that a probe reads"),
        )
    ),
)


def _finding(slug: str, name: str, claim: str) -> Finding:
    return Finding(
        slug=slug,
        claim=claim,
        source="Trinh et al. 2018 (arXiv 1803.00144), as the survey quotes it",
        decided_by={
            f"{name}_gain": "in errors of the copy",
            f"{name}_stored": "in what a probe reads from the state",
        },
        requires=("left",),
        if_holds=f"Add `{name}(strength=1.0, point='state')` where a memory does not learn to store.",
        if_not="What can be decoded need not be used: try it in a trial of your own recipe before you pay for it.",
        elsewhere="Thousands of inputs, of which the gradient of the task's loss reaches only the last.",
    )


STUDY = study(
    Experiment(
        name="survey-reconstruction",
        what="do losses of reconstruction and of prediction teach an LSTM to hold what it must copy?",
        source="Trinh et al. 2018 (arXiv 1803.00144)",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=reconstruction,
        minutes={"small": 1.6},
        trainings=trainings,
        plots=(
            Plot(
                title="Errors through training",
                caption="Bit errors a sequence, of validation sequences.",
                y_label="bit errors a sequence",
                lines={name: f"{name}: step -> {name}: errors" for name in ARMS},
            ),
        ),
    ),
    _finding("reconstruction-forces-storing", BACKWARDS, "Having to say what came before forces a network to store it"),
    _finding("prediction-forces-storing", AHEAD, "Having to say what comes next teaches long dependencies as well"),
    Finding(
        slug="auxiliary-loss-alone",
        claim="A loss of reconstruction teaches a network to store even next to no loss of the task",
        source="Trinh et al. 2018 (arXiv 1803.00144): 40 % on CIFAR-10 from auxiliary losses alone",
        decided_by={"alone_stored": "more is read from the state than before training"},
        requires=("untrained: stored",),
        if_holds="Warm a memory up with `reconstruction(strength=1.0, point='state')` before the task is learned.",
        if_not="Give the loss beside a task: alone it fills no memory here.",
        elsewhere="The published test: an LSTM over the pixels of CIFAR-10, trained on nothing else and read out.",
    ),
)
