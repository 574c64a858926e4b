"""A trial so small that a run takes a moment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mnemoscope.examination import Budget
from mnemoscope.experiments.executors import Ended, Work
from mnemoscope.experiments.recipes import RECIPES
from mnemoscope.experiments.trials import TrialPlan, plan_trial
from mnemoscope.experiments.trials.jobs import Job
from mnemoscope.models import StackConfig
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import Recipe
from mnemoscope.training.remedies import BranchDropout

BUDGET = Budget(
    n_calibration=8,
    n_test=8,
    looks=1,
    fit_steps=2,
    joint_fit_steps=1,
    windows=(1,),
    untrained_copy=False,
    contribution=False,
    n_resamples=200,
)
RECIPE = Recipe(
    name="Small recall",
    model=StackConfig.of("gated_delta, attention(window=4)", vocab_size=16, d_model=8),
    task=MqarConfig(vocab_size=16, length=12, n_pairs=2),
    train=replace(
        RECIPES["recall-short-window"].train,
        steps=6,
        batch_size=4,
        warmup_steps=1,
        eval_every=3,
        eval_sequences=8,
        log_every=1,
        checkpoint_every=2,
        threads=1,
    ),
)


def small_trial(seeds: int = 2, recipe: Recipe = RECIPE) -> TrialPlan:
    return plan_trial(recipe, [BranchDropout(strength=0.5)], seeds, budget=BUDGET)


@dataclass
class Here:
    """An executor without processes; `ran` is what it was given."""

    ran: list[str] = field(default_factory=list)

    def run(self, jobs: Sequence[Job], work: Work) -> Iterator[Ended]:
        for job in jobs:
            self.ran.append(job.name)
            try:
                work(job)
            except (Exception, KeyboardInterrupt) as error:
                yield Ended(job, f"{type(error).__name__}: {error}")
            else:
                yield Ended(job, "")
