"""What a trial trains: a control and arms that differ from it, each with the same seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mnemoscope.contracts.names import check_folder_name
from mnemoscope.examination import Budget
from mnemoscope.experiments.atlas.trials import PRESETS, changes_nothing, with_presets
from mnemoscope.experiments.trials.jobs import Job
from mnemoscope.runs.trial import ClaimRecord, Trial
from mnemoscope.training import Recipe
from mnemoscope.training.remedies import Remedy

BUDGET = Budget(
    n_calibration=256, n_test=512, fit_steps=150, joint_fit_steps=75, contribution=False, untrained_copy=False
)
"""Of one examination: seeds are the unit, so that many sequences of one seed decide little."""


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One recipe, under a short name that is also its folder; `seeds` overrides those of the trial."""

    name: str
    recipe: Recipe
    seeds: int | None = None

    def __post_init__(self) -> None:
        check_folder_name("trial: the name of an arm", self.name)


@dataclass(frozen=True, kw_only=True)
class TrialPlan:
    """Arms over seeds; the first arm is the control.

    Args:
        name: of the trial.
        arms: at least one, with different names.
        seeds: of each arm, 0 ... seeds - 1; the seed determines the data, their order and the initial weights.
        budget: of each examination.
        local_window: tokens that count as local, in all arms; None for what each model's own parts reach.
        claims: what the trial is to show, besides the acceptance of every arm.
    """

    name: str
    arms: tuple[Arm, ...]
    seeds: int
    budget: Budget = BUDGET
    local_window: int | None = None
    claims: Callable[[Trial], list[ClaimRecord]] = lambda trial: []

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"trial: needs arms with different names, got {names}; name each after what it varies")
        if self.seeds < 1:
            raise ValueError(f"trial: seeds must be at least 1, got {self.seeds}; 3 allow a statement, 5 a publication")

    def jobs(self, folder: Path) -> list[Job]:
        """Every run, one seed of all arms before the next."""
        wanted = [(seed, arm) for seed in range(self.most_seeds) for arm in self.arms if seed < self.seeds_of(arm)]
        return [
            Job(
                arm=arm.name,
                seed=seed,
                recipe=replace(arm.recipe, train=replace(arm.recipe.train, seed=seed)),
                folder=folder / arm.name / f"seed-{seed}",
                budget=self.budget,
                local_window=self.local_window,
            )
            for seed, arm in wanted
        ]

    def seeds_of(self, arm: Arm) -> int:
        """How many seeds an arm has."""
        return self.seeds if arm.seeds is None else arm.seeds

    @property
    def most_seeds(self) -> int:
        """Seeds of the arm that has the most."""
        return max(map(self.seeds_of, self.arms))


def plan_trial(
    recipe: Recipe, remedies: Sequence[Remedy], seeds: int, *, together: bool = False, budget: Budget = BUDGET
) -> TrialPlan:
    """A control against each remedy, or against all of them together.

    Args:
        recipe: of the control, which keeps the remedies it has.
        remedies: what the arms add, at least one.
        seeds: of each arm.
        together: one arm with all of them, in this order.
        budget: of each examination.

    Raises:
        ValueError: no remedy, or fewer than one seed.
    """
    if not remedies:
        raise ValueError("trial: needs at least one remedy to compare with the control, got none; see `list remedies`")
    added = [tuple(remedies)] if together else [(remedy,) for remedy in remedies]
    names = _distinct(["+".join(remedy.kind for remedy in group) for group in added])
    treated = [replace(recipe, remedies=(*recipe.remedies, *group)) for group in added]
    arms = [Arm(name=name, recipe=one) for name, one in zip(names, treated, strict=True)]
    return TrialPlan(name=recipe.name, arms=(Arm(name="control", recipe=recipe), *arms), seeds=seeds, budget=budget)


def plan_of_presets(recipe: Recipe, presets: Sequence[str], seeds: int, *, budget: Budget = BUDGET) -> TrialPlan:
    """A recipe as it is, the control, against changes of the Atlas guide, each in an arm.

    Args:
        recipe: of the control.
        presets: names, at least one; see `experiments.atlas.trials`.
        seeds: of each arm.
        budget: of each examination.

    Raises:
        ValueError: no name or an unknown one, a change that does not fit the recipe or changes nothing in it, or fewer
            than one seed.
    """
    if not presets:
        raise ValueError("trial: needs at least one preset to compare with the control; see `list presets`")
    arms = [Arm(name=name, recipe=with_presets(recipe, [name])) for name in presets]
    idle = [arm.name for arm in arms if changes_nothing(recipe, arm.recipe)]
    if idle:
        raise ValueError(
            f"trial: no change here: {recipe.name} trains alike with {', '.join(idle)}, which would be a second "
            f"control{PRESETS[idle[0]].here and f' ({PRESETS[idle[0]].here})'}; leave it out, or change the recipe"
        )
    return TrialPlan(name=recipe.name, arms=(Arm(name="control", recipe=recipe), *arms), seeds=seeds, budget=budget)


def _distinct(names: Sequence[str]) -> list[str]:
    """Two arms of one remedy are numbered."""
    return [
        name if names.count(name) == 1 else f"{name}-{list(names[: i + 1]).count(name)}" for i, name in enumerate(names)
    ]
