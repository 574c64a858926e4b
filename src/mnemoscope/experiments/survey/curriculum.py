"""Does a bandit that chooses lengths teach an LSTM to copy sooner than uniform lengths, stages or the hard task alone?

    target     sequences of the longest kind alone
    uniform    lengths drawn uniformly, for every step
    bandit     lengths drawn by a bandit that is rewarded by progress (Exp3.S)
    staged     the shortest first, then longer ones

All are tested on the longest kind. Two arms are compared in speed where at least one of them converged; the other then
counts with half as much again as the steps there were.

Known limits: an LSTM and at most eight vectors of two bits; bandits are slow learners, and the step size is ten times
the published one, for a training of some thousand steps. There are 4,000 of them because in one seed of 1,600 uniform
lengths were still short of few errors after 1,440.

Source: Graves et al. 2017 (arXiv 1704.03003): "in some cases halving the time"; of curricula that fail, the Parallax
note. What differs: copying alone; the size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnemoscope.experiments.planning import Target
from mnemoscope.experiments.reproducing import Claim, Experiment, Measured, Plot
from mnemoscope.experiments.survey.arms import Training, folder_of, larger, targets
from mnemoscope.experiments.survey.bits import all_learned, of_bits
from mnemoscope.experiments.survey.frame import Finding, study
from mnemoscope.runs import RunDirectory
from mnemoscope.tasks import CopyingConfig
from mnemoscope.training import Recipe
from mnemoscope.training.lessons import AnyLesson, Bandit, Plain, Stage, Staged

TARGET, UNIFORM, BANDIT, STAGED = ARMS = ("target", "uniform", "bandit", "staged")
SHORTEST = "lesson.policy.0"


@dataclass(frozen=True, kw_only=True)
class CurriculumStudy:
    """What is copied, how arms are trained, and the lengths.

    Args:
        training: of every arm.
        n_bits: of a vector.
        lengths: that a curriculum has, the last of which is tested.
        width: cells of the LSTM.
        eta: step size of the bandit.
    """

    training: Training = field(default_factory=Training)
    n_bits: int = 2
    lengths: tuple[int, ...] = (2, 4, 6, 8)
    width: int = 64
    eta: float = 0.01

    def task(self, length: int) -> CopyingConfig:
        """Copying vectors of one number."""
        return CopyingConfig(n_bits=self.n_bits, min_length=length, max_length=length)

    @property
    def lessons(self) -> dict[str, AnyLesson]:
        """By arm."""
        tasks = tuple(self.task(length) for length in self.lengths)
        ends = [(i + 1) / (2 * len(tasks) - 2) for i in range(len(tasks) - 1)]
        return {
            TARGET: Plain(),
            UNIFORM: Bandit(arms=tasks, eps=1.0),
            BANDIT: Bandit(arms=tasks, eta=self.eta),
            STAGED: Staged(stages=tuple(Stage(task=task, until=end) for task, end in zip(tasks, ends, strict=False))),
        }


def recipes(settings: CurriculumStudy) -> dict[str, Recipe]:
    """Of every arm."""
    return {
        name: of_bits(
            settings.training,
            f"curriculum-{name}",
            f"lstm(width={settings.width})",
            settings.task(settings.lengths[-1]),
            lesson=lesson,
        )
        for name, lesson in settings.lessons.items()
    }


def curriculum(settings: CurriculumStudy, seed: int, out: Path) -> Measured:
    """Errors of every arm, when they became few, and what the bandit chose."""
    arms = recipes(settings)
    found, series = all_learned(settings.training, arms, seed, out)
    steps = {name: one.steps for name, one in found.items()}
    rows = [row for row in RunDirectory(folder_of(out, arms[BANDIT], seed)).read_metrics() if SHORTEST in row]
    policy = {length: [float(row[f"lesson.policy.{i}"]) for row in rows] for i, length in enumerate(settings.lengths)}
    series |= {"policy: step": [float(row["step"]) for row in rows]}
    series |= {f"policy {length}": shares for length, shares in policy.items()}
    figures = {f"{name}: errors": one.errors for name, one in found.items()}
    figures |= {f"{name}: steps": number for name, number in steps.items()}
    compared = {
        "converged": max(one.converged for one in found.values()),
        "bandit_converged": max(found[UNIFORM].converged, found[BANDIT].converged),
        "bandit_speed": steps[UNIFORM] / steps[BANDIT],
        "short_first": short_first(list(policy.values())),
        "curriculum_speed": steps[TARGET] / min(steps[name] for name in (UNIFORM, BANDIT, STAGED)),
    }
    return Measured(figures=figures | compared, series=series)


def short_first(policy: Sequence[Sequence[float]]) -> float:
    """How much more of the shorter half of the lengths is chosen in the first quarter than in the last."""
    short = [sum(step) for step in zip(*policy[: len(policy) // 2], strict=True)]
    quarter = max(1, len(short) // 4)
    return sum(short[:quarter]) / quarter - sum(short[-quarter:]) / quarter


def trainings(settings: CurriculumStudy) -> Sequence[Target]:
    """Of one seed, for the planner."""
    return targets(recipes(settings).values())


SMALL = CurriculumStudy(training=Training(d_model=32, mlp_ratio=0.0, steps=4000, learning_rate=1e-2))
PAPER = CurriculumStudy(
    training=larger(Training(mlp_ratio=0.0)), n_bits=8, lengths=(2, 5, 10, 20, 40), width=512, eta=1e-3
)
CLAIMS = (
    Claim(figure="converged", what="does any arm converge (1: yes)", published="yes", least=1.0),
    Claim(
        figure="bandit_converged",
        what="does one of uniform lengths and bandit converge (1: yes)",
        published="yes",
        least=1.0,
    ),
    Claim(
        figure="bandit_speed",
        what="steps with uniform lengths, over those with the bandit",
        published="up to 2; ours: 1.25",
        least=1.25,
        in_seeds=2 / 3,
    ),
    Claim(
        figure="short_first",
        what="share of short lengths that the bandit chooses: first quarter less last",
        published="short first; ours: 0.02",
        least=0.02,
        in_seeds=2 / 3,
    ),
    Claim(
        figure="curriculum_speed",
        what="steps on the hard task alone, over those with the best curriculum",
        published="the hard is learned directly; ours: 1.1",
        most=1.1,
        in_seeds=2 / 3,
    ),
    *(Claim(figure=f"{name}: errors", what=f"bit errors a sequence: {name}") for name in ARMS),
    *(Claim(figure=f"{name}: steps", what=f"steps until errors are few: {name}") for name in ARMS),
)

STUDY = study(
    Experiment(
        name="survey-curriculum",
        what="does a bandit that chooses lengths teach an LSTM to copy sooner than other curricula, or none?",
        source="Graves et al. 2017 (arXiv 1704.03003); the Parallax note",
        claims=CLAIMS,
        sizes={"small": SMALL, "paper": PAPER},
        measure_in=curriculum,
        minutes={"small": 1.9},
        trainings=trainings,
        plots=(
            Plot(
                title="Errors through training",
                caption="Bit errors a sequence, of validation sequences of the longest kind.",
                y_label="bit errors a sequence",
                lines={name: f"{name}: step -> {name}: errors" for name in ARMS},
            ),
            Plot(
                title="What the bandit chooses",
                caption="Probability of every length; a curriculum would begin with the short ones.",
                y_label="probability",
                x="policy: step",
                lines={f"{length} vectors": f"policy {length}" for length in SMALL.lengths},
            ),
        ),
    ),
    Finding(
        slug="bandit-curriculum",
        claim="A bandit rewarded by progress learns to copy sooner than uniform lengths, and starts with short ones",
        source="Graves et al. 2017 (arXiv 1704.03003)",
        decided_by={
            "bandit_speed": "in speed",
            "short_first": "in that it chooses short sequences first",
        },
        requires=("bandit_converged",),
        if_holds="Give it a range of lengths: `lesson=Bandit(arms=...)`; it costs one more forward pass a step.",
        if_not="Draw lengths uniformly: it is simpler, and was as good here.",
        elsewhere="Trainings of tens of thousands of steps, in which a bandit has time to learn.",
    ),
    Finding(
        slug="curricula-that-fail",
        claim="A curriculum that fails can be wrong about what is hard: the model learns the hard examples directly",
        source="the Parallax note (note 004), its bigger pattern",
        decided_by={"curriculum_speed": "the hard task alone is learned as soon as with the best curriculum"},
        requires=("converged",),
        if_holds="Before you mend a curriculum, train on the hard task alone: it may need none.",
        if_not="Here the curriculum does carry: begin with what is short.",
        elsewhere="Tasks that are not learned at all without a curriculum.",
    ),
)
