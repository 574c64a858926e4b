"""A trial of three arms, made by hand: an arm that is decided, one of too few seeds, a run that failed."""

from mnemoscope.runs import Estimate
from mnemoscope.runs.examination import Verdict
from mnemoscope.runs.trial import ArmComparison, ArmRecord, ClaimRecord, SeedRecord, Trial

HEADROOM = 3.47
FAILURE = "NonFiniteLossError: the loss of step 12 is nan"


def estimate(value: float, half_width: float = 0.05, level: float = 0.95) -> Estimate:
    return Estimate(value=value, low=value - half_width, high=value + half_width, level=level)


def seed(number: int, arm: str, share: float, effect: float, verdict: Verdict, loss: float = 0.02) -> SeedRecord:
    return SeedRecord(
        seed=number,
        folder=f"{arm}/seed-{number}",
        loss=estimate(loss, 0.004),
        demanded_loss=estimate(loss * 1.5, 0.006),
        accuracy=0.99 - loss / 10,
        effect=estimate(effect),
        share=estimate(share, 0.015),
        margin=0.069,
        verdict=verdict,
        seconds=105.0,
    )


def arm(name: str, what: str, rows: list[tuple[float, float, Verdict]], mean: tuple[float, float] | None) -> ArmRecord:
    seeds = [seed(i, name, share, effect, verdict, 0.02 + 0.003 * i) for i, (share, effect, verdict) in enumerate(rows)]
    if mean is None:
        return ArmRecord(name=name, what=what, seeds=seeds)
    return ArmRecord(name=name, what=what, seeds=seeds, share=estimate(mean[0], 0.17), effect=estimate(mean[1], 0.8))


def trial(remedy: str = "branch_dropout") -> Trial:
    wide = arm(
        "wide",
        "Recall, attention window 48; no remedy",
        [(0.39, 0.12, "load-bearing (shared)"), (0.0, 0.0, "decorative"), (-0.001, 0.0, "decorative")],
        (0.13, 0.04),
    )
    narrow = arm("narrow", "Recall, attention window 4; no remedy", [(1.0, 3.59, "load-bearing (sole)")], None)
    dropout = arm(
        remedy,
        f"Recall, attention window 48; {remedy}(strength=0.5)",
        [(1.0, 3.6, "load-bearing (sole)"), (0.11, 0.0, "redundant"), (0.53, 0.24, "load-bearing (shared)")],
        (0.55, 1.28),
    )
    failed = SeedRecord(seed=3, folder=f"{remedy}/seed-3", failure=FAILURE)
    dropout = dropout.model_copy(update={"seeds": [*dropout.seeds, failed]})
    return Trial(
        name="Recall <48>",
        command="mnemoscope trial recall.json --seeds 4",
        arms=[wide, narrow, dropout],
        comparisons=[too_few("narrow"), inconclusive(remedy)],
        claims=[
            ClaimRecord(claim="narrow: the memory carries all of it", seen="100%", holds=True),
            ClaimRecord(claim="wide: the median share is under 20%", seen="39% of 1 seeds", holds=False),
            ClaimRecord(claim="dropout raises the mean share", seen="nothing yet", holds=None),
        ],
        missing=[f"{remedy} seed 3: {FAILURE}"],
        seconds=1234.0,
        versions={"mnemoscope": "0.1.0", "torch": "2.13.0"},
    )


def of_episodes() -> Trial:
    """The same, of trainings in episodes: utilities of the control and of the last arm, and what that gains."""
    plain = trial()
    wide, narrow, dropout = plain.arms
    seeds = [
        [each.model_copy(update={"utility": estimate(value)}) for each in arm.seeds]
        for arm, value in ((wide, 0.01), (dropout, 0.31))
    ]
    arms = [wide.model_copy(update={"seeds": seeds[0]}), narrow, dropout.model_copy(update={"seeds": seeds[1]})]
    few, row = plain.comparisons
    gained = row.model_copy(update={"utility_gain": estimate(0.3, 0.12)})
    return plain.model_copy(update={"arms": arms, "comparisons": [few, gained]})


def too_few(name: str) -> ArmComparison:
    because = "1 seed is finished in both arms; 3 allow a statement"
    return ArmComparison(arm=name, n_seeds=1, margin=0.069, outcome="too few seeds", because=because)


def inconclusive(name: str) -> ArmComparison:
    return ArmComparison(
        arm=name,
        n_seeds=3,
        margin=0.069,
        effect_gain=estimate(1.24, 4.6, 0.975),
        effect=estimate(1.28, 4.6, 0.975),
        share_gain=estimate(0.417, 0.9, 0.975),
        loss_change=estimate(-0.004, 0.012, 0.975),
        demanded_gain=estimate(0.006, 0.018, 0.975),
        p_value=0.25,
        outcome="inconclusive",
        because="the effect changed by 1.240 [-3.360, 5.840], the loss by -0.004 [-0.016, 0.008], the margin is 0.069",
        required_seeds=11,
    )
