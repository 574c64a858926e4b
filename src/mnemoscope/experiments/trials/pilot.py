"""The remedy pilot: recall with a window of 4, with a window over everything, and the latter with branch dropout.

Two blocks of linear attention, then softmax attention of a window, both with a convolution over 3 tokens; recall of 8
pairs in 48 tokens. What was measured for the specification, four seeds of each and two of the narrow window: the
memory's share is 100 % with the narrow window, 0 to 39 % with the wide one, 11 to 100 % with dropout of whole branches.
Seeds of one recipe span the whole range, so nothing is said of a single seed.

Source: decorative-memory specification, section 5.6.
"""

from dataclasses import replace
from statistics import fmean, median

from mnemoscope.experiments.trials.plan import Arm, TrialPlan
from mnemoscope.models import StackConfig
from mnemoscope.runs.trial import ArmRecord, ClaimRecord, Trial
from mnemoscope.tasks import MqarConfig
from mnemoscope.training import Recipe, TrainConfig
from mnemoscope.training.remedies import BranchDropout, Remedy

NARROW, WIDE = 4, 48
TASK = MqarConfig(vocab_size=64, length=48, n_pairs=8, power_a=1.0)
TRAINING = TrainConfig(
    steps=1500,
    batch_size=64,
    learning_rate=3e-3,
    warmup_steps=100,
    eval_every=500,
    eval_sequences=256,
    log_every=50,
    checkpoint_every=500,
    threads=1,
)
WHOLE, LITTLE = 0.95, 0.2
"""A share that counts as all of the task, and one that counts as little of it."""


def pilot(steps: int | None = None) -> TrialPlan:
    """Wide window (8 seeds, the control), narrow window (2 seeds), wide window with branch dropout (8 seeds).

    Args:
        steps: of each training; None for the specification's.
    """
    steps = TRAINING.steps if steps is None else steps
    arms = (
        Arm(name="wide", recipe=_recipe(WIDE, (), steps)),
        Arm(name="narrow", recipe=_recipe(NARROW, (), steps), seeds=2),
        Arm(name="dropout", recipe=_recipe(WIDE, (BranchDropout(strength=0.5),), steps)),
    )
    return TrialPlan(name="remedy-pilot", arms=arms, seeds=8, local_window=NARROW, claims=claims)


def claims(trial: Trial) -> list[ClaimRecord]:
    """What the specification found, on the seeds of this trial; open while seeds are missing."""
    wide, narrow, dropout = (_arm(trial, name) for name in ("wide", "narrow", "dropout"))
    before, after = shares(wide), shares(dropout)
    return [
        ClaimRecord(
            claim=f"narrow window: the memory carries all of it (share at least {WHOLE:.0%} in every seed)",
            seen=", ".join(f"{share:.0%}" for share in shares(narrow)) or "nothing yet",
            holds=min(shares(narrow)) >= WHOLE if is_whole(narrow) else None,
        ),
        ClaimRecord(
            claim=f"wide window: the memory's median share is under {LITTLE:.0%}",
            seen=f"{median(before):.0%} of {len(before)} seeds" if before else "nothing yet",
            holds=median(before) < LITTLE if is_whole(wide) else None,
        ),
        ClaimRecord(
            claim="branch dropout raises the memory's mean share",
            seen=f"from {fmean(before):.0%} to {fmean(after):.0%}" if before and after else "nothing yet",
            holds=fmean(after) > fmean(before) if is_whole(wide) and is_whole(dropout) else None,
        ),
    ]


def shares(arm: ArmRecord) -> list[float]:
    """Of the seeds that have one."""
    return [seed.share.value for seed in arm.seeds if seed.share is not None]


def is_whole(arm: ArmRecord) -> bool:
    """Whether every seed has a share."""
    return len(shares(arm)) == len(arm.seeds) > 0


def _arm(trial: Trial, name: str) -> ArmRecord:
    return next(arm for arm in trial.arms if arm.name == name)


def _recipe(window: int, remedies: tuple[Remedy, ...], steps: int) -> Recipe:
    block = f"linear_attention(convolution=3), attention(window={window}, convolution=3)"
    return Recipe(
        name=f"Recall, attention window {window}",
        model=replace(StackConfig.of(f"({block}) * 2", vocab_size=TASK.vocab_size, d_model=64), mlp_ratio=1.0),
        task=TASK,
        train=replace(TRAINING, steps=steps, warmup_steps=min(TRAINING.warmup_steps, steps)),
        remedies=remedies,
    )
