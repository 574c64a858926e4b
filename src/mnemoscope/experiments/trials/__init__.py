"""Trials: a control against remedies, over several seeds, with the acceptance test of a remedy.

plan.py         what is trained: arms and seeds
jobs.py         one seed of one arm: trained and examined, or gone on with
acceptance.py   from seeds to a statement
trial.py        all of it, resumable
pilot.py        the remedy pilot of the specification
"""

from collections.abc import Callable, Mapping

from mnemoscope.experiments.executors import Executor, LocalPool, RayCluster
from mnemoscope.experiments.trials.pilot import pilot
from mnemoscope.experiments.trials.plan import Arm, TrialPlan, plan_of_presets, plan_trial
from mnemoscope.experiments.trials.trial import read_trial, run_trial

TRIALS: Mapping[str, Callable[[int | None], TrialPlan]] = {"remedy-pilot": pilot}
"""Trials that are complete, by name; each is given the training steps, or None for its own."""

__all__ = [
    "TRIALS",
    "Arm",
    "Executor",
    "LocalPool",
    "RayCluster",
    "TrialPlan",
    "plan_of_presets",
    "plan_trial",
    "read_trial",
    "run_trial",
]
