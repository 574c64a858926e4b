"""The record of an examination: effects with intervals, verdicts with their evidence, prescriptions."""

from typing import Literal

from pydantic import Field

from mnemoscope.runs.record import SCHEMA_VERSION, Record

Verdict = Literal[
    "untrained",
    "not-demanded",
    "clock",
    "redundant",
    "decorative (scale)",
    "constant-bias",
    "starved",
    "decorative",
    "saturated",
    "local-only",
    "load-bearing (sole)",
    "load-bearing (shared)",
    "load-bearing",
    "inconclusive",
]
Locus = Literal["read", "contribution"]
InterventionName = Literal[
    "optimal_constant",
    "position_constant",
    "zero",
    "mean",
    "position_mean",
    "resample",
    "random_constant",
    "random_directions",
    "gate_shut",
    "gate_open",
    "write_freeze",
]


class Estimate(Record):
    """A mean over sequences with its bootstrap interval, in nats per scored token unless said otherwise."""

    value: float
    low: float
    high: float
    level: float = 0.95

    def __str__(self) -> str:
        """For example "0.807 [0.747, 0.865]"."""
        value, low, high = (f"{round(number, 3) + 0.0:.3f}" for number in (self.value, self.low, self.high))
        return f"{value} [{low}, {high}]"


class HorizonPoint(Record):
    """Loss increase when only the last `window` tokens are kept in memory."""

    window: int
    effect: Estimate


class PositionCurve(Record):
    """Mean loss at each scored position, with everything in place and without one part."""

    positions: list[int]
    loss: list[float]
    n_sequences: list[int]


class ComparisonRecord(Record):
    """What a verdict rests on: an effect against the margin, at the level that Holm's adjustment leaves to it."""

    name: str
    effect: Estimate
    outcome: Literal["above", "below", "open"]


class ProbeRecord(Record):
    """What a linear probe of the answer gains from the read over the site's own input (D15), in nats per answer.

    `gain` is held-out; `shuffled` is the same gain with reads of other sequences: the control. `untrained` is the gain
    from the reads of a copy with fresh parameters, on the same answers: the floor; `above_untrained` is the paired
    difference, on which "stored" rests. Both are None where there is no such copy.
    """

    gain: Estimate
    shuffled: Estimate
    n_answers: int
    untrained: Estimate | None = None
    above_untrained: Estimate | None = None

    @property
    def stored(self) -> Estimate:
        """What counts as stored: the gain above the floor, or the gain where there is no floor."""
        return self.gain if self.above_untrained is None else self.above_untrained


class PatchingRecord(Record):
    """State patching (D5) at token `at`: the part of the difference between two runs that the site's state carries.

    `denoise` is what the clean state restores in a corrupt run, `noise` what a corrupt state destroys in a clean one.
    The state is exchanged by running the module on the other run's history (`by` "history"), or where that cannot be
    done, by writing into what the model remembers (`by` "state"), which the continuation self-test must allow.
    """

    at: int
    denoise: Estimate | None
    noise: Estimate | None
    by: Literal["history", "state"] = "history"


class ContinuationRecord(Record):
    """The continuation self-test: whether a model that goes on from its state computes what it computes in one piece.

    `way` is how it is made to go on, the rest of a sequence in one call ("multi") or token by token ("step"); None
    where states must not be taken out or exchanged, and `reason` says why. `in_one_call` and `token_by_token` are the
    largest errors in standard deviations of the outputs, at most 0.001 being allowed; None where that way did not run.
    `needs_positions` says that it is right only if told the positions of its tokens.
    """

    way: Literal["multi", "step"] | None
    in_one_call: float | None
    token_by_token: float | None
    needs_positions: bool
    n_sequences: int
    n_tokens: int
    reason: str = ""


class SiteRecord(Record):
    """One memory site, a group of them, or one alternative route, and what was measured of it.

    `effects[locus][intervention]` is the paired loss increase. `share` is the Shapley share of the headroom, as a
    fraction. `necessity` is the optimal-constant effect over the headroom, `sufficiency` is one minus the effect of
    switching every other route off over the headroom. `members` are the sites of a group, which are switched off
    together; `comparisons` are what the verdict rests on. `part` says which part of a memory it is ("head 2 of 4").
    `unmeasured` says why the "state", the "probe" or the "patching" of a site could not be measured, by these names; of
    a part, also the "contribution", the "gate" or the "addressing".
    """

    name: str
    role: Literal["memory", "route", "group"]
    module: str
    effects: dict[Locus, dict[InterventionName, Estimate]]
    horizon: list[HorizonPoint] = Field(default_factory=list)
    horizon_method: Literal["windowed", "unfolded", "none"] = "none"
    conditional: Estimate | None = None
    share: Estimate | None = None
    necessity: float | None = None
    sufficiency: float | None = None
    measures: dict[str, float] = Field(default_factory=dict)
    members: list[str] = Field(default_factory=list)
    part: str = ""
    probe: ProbeRecord | None = None
    patching: PatchingRecord | None = None
    unmeasured: dict[str, str] = Field(default_factory=dict)
    comparisons: list[ComparisonRecord] = Field(default_factory=list)
    verdict: Verdict | None = None
    because: str = ""
    flags: list[str] = Field(default_factory=list)
    required_sequences: int | None = None
    without: PositionCurve | None = None


class PrescriptionRecord(Record):
    """A row of the prescription table that applies to a site; `command` tries the change, where one does."""

    site: str
    condition: str
    diagnosis: str
    change: str
    source: str
    evidence: str
    command: str = ""


class SubsetRecord(Record):
    """The verdicts on some positions or sequences of the test data.

    `n_sequences` hold such a position; `share` is the part of all scored positions that they are.
    """

    name: str
    n_sequences: int
    share: float | None
    base_loss: Estimate
    headroom: Estimate
    margin: float
    memories_share: Estimate | None
    sites: list[SiteRecord]
    groups: list[SiteRecord] = Field(default_factory=list)


class LoadRecord(Record):
    """Accuracy on test sequences that hold so many items."""

    load: int
    accuracy: float
    n_sequences: int


class ControlRecord(Record):
    """A control arm: what was done, what was seen, and whether the instrument behaved."""

    name: str
    seen: str
    passed: bool


class Examination(Record):
    """Everything an examination measured; `report` draws it, `verdicts.json` holds it.

    `memories_off`, `routes_off` and `headroom` are loss increases with all memory sites, all long-range routes, and
    both switched off; `memories_share` is the Shapley share of all memory sites together, as a fraction of the
    headroom. `margin` is the equivalence margin in nats. `constant_output_loss` is what the best constant output
    costs: a model that does not beat it is untrained. `n_tuning` of the calibration sequences chose among fitted
    constants. `look` of `looks` planned looks at the test sequences decided; `missing` says what was left unmeasured.
    `continuation` is the self-test of going on from a state; None where no state had to be taken out or exchanged.
    """

    schema_version: int = SCHEMA_VERSION
    subject: str
    n_calibration: int
    n_test: int
    seed: int
    local_window: int
    base_loss: Estimate
    constant_output_loss: float | None
    memories_off: Estimate
    routes_off: Estimate | None
    headroom: Estimate
    memories_share: Estimate | None
    margin: float
    sites: list[SiteRecord]
    routes: list[SiteRecord]
    routes_known: bool
    groups: list[SiteRecord] = Field(default_factory=list)
    subsets: list[SubsetRecord] = Field(default_factory=list)
    loads: list[LoadRecord] = Field(default_factory=list)
    controls: list[ControlRecord] = Field(default_factory=list)
    n_tuning: int = 0
    look: int = 1
    looks: int = 1
    missing: list[str] = Field(default_factory=list)
    continuation: ContinuationRecord | None = None
    base: PositionCurve | None
    prescriptions: list[PrescriptionRecord]
    replay: str
    warnings: list[str] = Field(default_factory=list)
    seconds: dict[str, float]
    versions: dict[str, str]
