"""`mnemoscope trial`: remedies against a control, over several seeds."""

import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import tyro

from mnemoscope.cli.executing import Kind, executor_of

if TYPE_CHECKING:
    from mnemoscope.experiments.trials import TrialPlan
    from mnemoscope.runs.trial import Trial as Record
    from mnemoscope.training.remedies import Remedy


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Train a recipe with and without remedies, examine every run, and say which remedy is accepted.

    The control and every remedy are trained on the same data in the same order, seed by seed. The same command goes on
    where it was stopped, and tries failed runs once more.
    """

    recipe: Annotated[str, tyro.conf.Positional]
    """Name of a recipe or a JSON file that holds one, or `remedy-pilot`, a trial that is complete."""

    remedies: str = ""
    """What is compared with the control, for instance "branch_dropout(strength=0.5), reconstruction"; see `mnemoscope
    list remedies`."""

    presets: str = ""
    """In place of remedies, changes of the Atlas guide to a recipe of ATLAS, each an arm: "option-a, option-b"; see
    `mnemoscope list presets`."""

    together: bool = False
    """All remedies at once, in one arm."""

    seeds: int | None = None
    """Of each arm; 5 unless said."""

    steps: int | None = None
    """Another number of training steps."""

    out: Path | None = None
    """Folder of the trial; runs/trial-RECIPE unless said."""

    processes: int | None = None
    """Trainings at once; one for each CPU core unless said, on Ray as many as the cluster has room for."""

    executor: Kind = "local"
    """Processes of this machine, or a Ray cluster, whose nodes must share the folder `--out`."""

    address: str | None = None
    """Of the Ray cluster: "auto" for the one that this machine is part of, or host:port of its head; without it a Ray
    is begun on this machine."""

    gpus_per_run: float = 0.0
    """GPUs of the Ray cluster for each run, for instance 1, or 0.25 where four runs share one."""

    def run(self) -> int:
        """Train, examine, compare; 1 where a run is not finished or a claim of the trial does not hold."""
        from mnemoscope.cli.printing import say
        from mnemoscope.experiments.trials import run_trial
        from mnemoscope.reporting.trial import write_trial

        executor = executor_of(
            self.executor, processes=self.processes, address=self.address, gpus_per_run=self.gpus_per_run
        )
        plan, folder = self._plan(), self.out or Path(f"runs/trial-{Path(self.recipe).stem}")
        command = shlex.join(["mnemoscope", *sys.argv[1:]])
        say(f"{sum(plan.seeds_of(arm) for arm in plan.arms)} runs: {', '.join(arm.name for arm in plan.arms)}")
        try:
            trial = run_trial(
                plan, folder, say, executor=executor, command=command, device="cuda" if self.gpus_per_run else "cpu"
            )
        except KeyboardInterrupt:
            say(f"what is finished is in {folder}; the same command goes on from there")
            raise
        _print(trial)
        say(str(write_trial(trial, folder / "report.html")))
        return 1 if trial.missing or any(claim.holds is False for claim in trial.claims) else 0

    def _plan(self) -> "TrialPlan":
        from mnemoscope.contracts.written import parse_calls
        from mnemoscope.experiments.recipes import ALL_RECIPES, find_recipe, with_changes
        from mnemoscope.experiments.trials import TRIALS, plan_of_presets, plan_trial
        from mnemoscope.training.remedies import REMEDIES

        if self.recipe in TRIALS:
            if self.remedies or self.together or self.presets:
                raise ValueError(
                    f"trial: {self.recipe} has its own arms; leave out --remedies, --presets and --together"
                )
            return _with_seeds(TRIALS[self.recipe](self.steps), self.seeds)
        name = self.recipe if Path(self.recipe).is_file() else self.recipe.partition("+")[0]
        _check_name(name, [*ALL_RECIPES, *TRIALS])
        recipe = with_changes(find_recipe(self.recipe), layout=None, steps=self.steps, seed=None)
        seeds = 5 if self.seeds is None else self.seeds
        if self.presets:
            if self.remedies or self.together:
                raise ValueError("trial: --presets are arms of their own; leave out --remedies and --together")
            return plan_of_presets(recipe, [name.strip() for name in self.presets.split(",")], seeds)
        remedies = cast("tuple[Remedy, ...]", parse_calls("remedies", self.remedies, REMEDIES))
        return plan_trial(recipe, remedies, seeds, together=self.together)


def _with_seeds(plan: "TrialPlan", seeds: int | None) -> "TrialPlan":
    """Another number of seeds; arms that have a number of their own get at most that."""
    if seeds is None:
        return plan
    arms = [arm if arm.seeds is None else replace(arm, seeds=min(arm.seeds, seeds)) for arm in plan.arms]
    return replace(plan, arms=tuple(arms), seeds=seeds)


def _check_name(name: str, known: list[str]) -> None:
    """Refuse what is neither a recipe nor a trial nor a file, with the nearest name."""
    from mnemoscope.contracts.written import nearest

    if name not in known and not Path(name).is_file():
        raise ValueError(f"trial: no recipe, trial or file is called {name!r}{nearest(name, known)}")


def _print(trial: "Record") -> None:
    """Every seed's row, each arm against the control, the claims; as wide as the terminal."""
    from mnemoscope.cli.printing import say
    from mnemoscope.cli.terminal import columns
    from mnemoscope.cli.trial_tables import trial_lines

    for line in trial_lines(trial, columns()):
        say(line)
