"""What a trial found: every seed of every arm, and each arm compared with the control."""

from typing import Literal

from pydantic import Field

from mnemoscope.runs.examination import Estimate, Verdict
from mnemoscope.runs.record import SCHEMA_VERSION, Record

Outcome = Literal["accepted", "forced, not useful", "harmful", "no effect", "inconclusive", "too few seeds"]
"""Of an arm against the control, the first that fits:

too few seeds        fewer than three of both finished: rows, no statement
harmful              the loss is surely higher by more than the margin
accepted             the memory's effect rose and surely exceeds the margin, the loss did not rise by the margin, and
                     where memory is demanded the loss fell
forced, not useful   the effect rose and surely exceeds the margin, and nothing else of this
no effect            the effect surely rose by less than the margin
inconclusive         none of these
"""


class SeedRecord(Record):
    """One seed of an arm.

    `effect` is what all memories together are worth beyond the best constants, `share` their Shapley share among the
    routes, `loss` the test loss, `demanded_loss` that of the positions that demand memory; in nats per scored token.
    `utility` is that of the memory on held-out episodes, accuracy with it less accuracy after a reset, of trainings in
    episodes. A run that is not finished has the reason in `failure` and nothing else.
    """

    seed: int
    folder: str
    failure: str = ""
    loss: Estimate | None = None
    demanded_loss: Estimate | None = None
    accuracy: float | None = None
    utility: Estimate | None = None
    effect: Estimate | None = None
    share: Estimate | None = None
    margin: float | None = None
    verdict: Verdict | None = None
    seconds: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether it was trained and examined."""
        return self.loss is not None


class ArmRecord(Record):
    """One recipe over all seeds.

    `share` and `effect` are means over seeds; their intervals resample seeds and, within each seed's own interval, its
    value: too narrow with few seeds, as every bootstrap of few units is.
    """

    name: str
    what: str
    seeds: list[SeedRecord]
    share: Estimate | None = None
    effect: Estimate | None = None


class ArmComparison(Record):
    """An arm against the control: differences of the same seeds, seed as the unit, intervals by Student's t.

    `effect_gain`, `share_gain`: of the arm less that of the control. `loss_change`: the arm's loss less the control's,
    so that less is better. `demanded_gain`: the control's loss where memory is demanded less the arm's.
    `utility_gain`: of the arm less that of the control, where both were trained in episodes.
    `p_value`: of the effect's gain, by flipping the signs of all differences; the smallest possible is 2 / 2**n.
    `required_seeds`: how many would decide at this spread, where it is inconclusive.
    """

    arm: str
    n_seeds: int
    margin: float
    effect_gain: Estimate | None = None
    effect: Estimate | None = None
    share_gain: Estimate | None = None
    loss_change: Estimate | None = None
    demanded_gain: Estimate | None = None
    utility_gain: Estimate | None = None
    p_value: float | None = None
    outcome: Outcome
    because: str
    required_seeds: int | None = None


class ClaimRecord(Record):
    """What the trial was to show, and whether it did; None where seeds are missing."""

    claim: str
    seen: str
    holds: bool | None


class Trial(Record):
    """A trial: the first arm is the control."""

    schema_version: int = SCHEMA_VERSION
    name: str
    command: str
    arms: list[ArmRecord]
    comparisons: list[ArmComparison]
    claims: list[ClaimRecord] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    seconds: float
    versions: dict[str, str]
