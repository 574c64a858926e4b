"""Does an NTM need a memory that starts at 1e-6, and a curriculum, to learn to copy?

A neural Turing machine learns to copy up to eight vectors of bits, from three starts of its memory:

    constant     1e-6 everywhere
    random       drawn, and fixed
    learned      drawn, and trained
    curriculum   constant; at first up to half of the vectors, then three quarters, and all from half of the training on
    unclipped    constant; neither gradients nor the controls of the machine are clipped, as they are in all others

An arm whose loss or gradient is no longer finite stops there; so far this is looked for in the unclipped one alone.

Known limits: sequences are far shorter than the published ones of up to 20 vectors; lengths were chosen after a look at
the constant arm, which learned four vectors of four bits within 200 steps. In the unclipped arm, clipping of the
controls (at 20) and of the gradient (at a norm of 1) is taken away together; AdamW rescales what it is given, so that
large gradients alone are no trouble.

Source: Collier & Beel 2018 (arXiv 1807.08518); of the curriculum, Graves et al. 2017 (arXiv 1704.03003) as the survey
quotes it. What differs: the size of everything; AdamW with a cosine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey.arms import Training, folder_of, larger, targets, trained
from mnemoscope.experiments.survey.bits import FEW, all_learned, of_bits
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import CopyingConfig
from mnemoscope.training import Recipe
from mnemoscope.training.lessons import AnyLesson, Stage, Staged
from mnemoscope.training.nonfinite import NonFiniteLossError

Start: TypeAlias = Literal["constant", "random", "learned"]
CONSTANT, RANDOM, LEARNED, CURRICULUM, UNCLIPPED = "constant", "random", "learned", "curriculum", "unclipped"
STARTS: tuple[Start, ...] = ("constant", "random", "learned")
ARMS = (*STARTS, CURRICULUM)


@dataclass(frozen=True, kw_only=True)
class NtmStartStudy:
    """What is copied, how arms are trained, and the machine.

    Args:
        training: of every arm.
        task: what is copied.
        n_slots: rows of the memory.
        word: numbers in a row.
        hidden: width of the controller.
    """

    training: Training = field(default_factory=Training)
    task: CopyingConfig = field(default_factory=lambda: CopyingConfig(n_bits=6, max_length=8))
    n_slots: int = 16
    word: int = 12
    hidden: int = 32

    def recipe(self, name: str, start: Start, lesson: AnyLesson | None = None) -> Recipe:
        """One training."""
        layout = f"ntm(n_slots={self.n_slots}, word={self.word}, hidden={self.hidden}, memory='{start}')"
        return of_bits(self.training, f"ntm-{name}", layout, self.task, lesson=lesson)

    @property
    def unclipped(self) -> Recipe:
        """The training without clipping of any kind."""
        layout = f"ntm(n_slots={self.n_slots}, word={self.word}, hidden={self.hidden}, memory='constant', clip=None)"
        recipe = of_bits(self.training, f"ntm-{UNCLIPPED}", layout, self.task)
        return replace(recipe, train=replace(recipe.train, grad_clip=None))

    @property
    def stages(self) -> Staged:
        """Half of the vectors, three quarters, and then all; at least one."""
        parts = ((2, 0.25), (3, 0.5))
        tasks = (CopyingConfig(n_bits=self.task.n_bits, max_length=self.task.max_length * n // 4) for n, _ in parts)
        return Staged(stages=tuple(Stage(task=task, until=end) for task, (_, end) in zip(tasks, parts, strict=True)))


def recipes(settings: NtmStartStudy) -> dict[str, Recipe]:
    """Of every arm."""
    arms = {start: settings.recipe(start, start) for start in STARTS}
    return arms | {CURRICULUM: settings.recipe(CURRICULUM, CONSTANT, settings.stages)}


def ntm_start(settings: NtmStartStudy, seed: int, out: Path) -> Measured:
    """Errors of every arm, and when they became few."""
    found, series = all_learned(settings.training, recipes(settings), seed, out)
    figures = {f"{name}: errors": one.errors for name, one in found.items()}
    figures |= {f"{name}: steps": one.steps for name, one in found.items()}
    figures["unclipped: failed"] = float(fails(settings.training, settings.unclipped, seed, out))
    compared = {
        "starts_converged": max(found[name].converged for name in STARTS),
        "constant_speed": min(found[RANDOM].steps, found[LEARNED].steps) / found[CONSTANT].steps,
        "curriculum_converged": found[CURRICULUM].converged,
        "curriculum_speed": found[CONSTANT].steps / found[CURRICULUM].steps,
    }
    return Measured(figures=figures | compared, series=series)


def fails(training: Training, recipe: Recipe, seed: int, out: Path) -> bool:
    """Whether a training ends in a loss or gradient that is not finite; one that has is not begun again."""
    run = RunDirectory(folder_of(out, recipe, seed))
    if run.manifest_path.exists() and run.read_manifest().message.startswith(NonFiniteLossError.__name__):
        return True
    try:
        trained(training, recipe, seed, out)
    except NonFiniteLossError:
        return True
    return False


def trainings(settings: NtmStartStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets([*recipes(settings).values(), settings.unclipped])


SMALL = NtmStartStudy(training=Training(d_model=32, mlp_ratio=0.0, steps=700, learning_rate=1e-2))
PAPER = NtmStartStudy(training=larger(Training(mlp_ratio=0.0)), task=CopyingConfig(), n_slots=128, word=20, hidden=100)
CLAIMS = (
    Claim(
        figure="starts_converged",
        what="does any of the three starts converge without a curriculum (1: yes)",
        published="yes",
        least=1.0,
    ),
    Claim(
        figure="constant_speed",
        what="steps of the next best start, over those of the constant one",
        published="2",
        least=2.0,
    ),
    Claim(figure="curriculum_converged", what="does the curriculum converge (1: yes)", published="yes", least=1.0),
    Claim(
        figure="constant: errors",
        what="bit errors a sequence without a curriculum",
        published="does not converge",
        least=FEW,
    ),
    Claim(
        figure="curriculum_speed",
        what="steps without a curriculum, over those with it",
        published="faster; ours: 1.25",
        least=1.25,
    ),
    Claim(
        figure="unclipped: failed",
        what="is a loss or gradient not finite without clipping (1: yes)",
        published="frequently; ours: in half of the seeds",
        least=1.0,
        in_seeds=0.5,
    ),
    *(Claim(figure=f"{name}: errors", what=f"bit errors a sequence: {name}") for name in ARMS if name != CONSTANT),
    *(Claim(figure=f"{name}: steps", what=f"steps until errors are few: {name}") for name in ARMS),
)

STUDY = study(
    Experiment(
        name="survey-ntm-start",
        what="does an NTM need a memory that starts at 1e-6, and a curriculum, to learn to copy?",
        source="Collier & Beel 2018 (arXiv 1807.08518)",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=ntm_start,
        minutes={"small": 2.2},
        trainings=trainings,
        plots=(
            Plot(
                title="Errors through training",
                caption="Bit errors a sequence, of validation sequences up to the full length.",
                y_label="bit errors a sequence",
                lines={name: f"{name}: step -> {name}: errors" for name in ARMS},
            ),
        ),
    ),
    Finding(
        slug="constant-memory-start",
        claim="An NTM whose memory starts at 1e-6 everywhere converges twice as fast as from the next best start",
        source="Collier & Beel 2018 (arXiv 1807.08518)",
        decided_by={"constant_speed": "the next best start takes twice the steps"},
        requires=("starts_converged",),
        if_holds='Keep `memory="constant"`, the default of `ntm`.',
        if_not="The start is not what decides at this size: look at the learning rate and at several seeds first.",
        elsewhere="The published machine: 128 slots of 20 and up to 20 vectors of 8 bits.",
    ),
    Finding(
        slug="ntm-needs-a-curriculum",
        claim="Without a curriculum, NTMs do not converge at all; with one that begins short they do",
        source="the survey, of Collier & Beel 2018 and Graves et al. 2017",
        decided_by={
            "constant: errors": "in that errors stay many without one",
            "curriculum_speed": "in that errors are few sooner with one",
        },
        requires=("curriculum_converged",),
        if_holds="Begin with short sequences: `lesson=Staged(...)`.",
        if_not="Train on all lengths from the start, and keep the curriculum for what then fails.",
        elsewhere="Lengths of 1 to 20, of which the survey speaks; here the longest is 8.",
    ),
    Finding(
        slug="ntms-need-clipping",
        claim="Without clipping, the gradients of an NTM frequently become NaN",
        source="Collier & Beel 2018 (arXiv 1807.08518), of open implementations",
        decided_by={"unclipped: failed": "in half of the seeds and more"},
        requires=("starts_converged",),
        if_holds="Keep the gradient clipped and `ntm(clip=20)`, its default.",
        if_not="Clip for safety, and look elsewhere for what keeps a machine from learning.",
        elsewhere="Tens of thousands of steps over sequences of 40 tokens, and other optimisers than AdamW.",
    ),
)
