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

    `gain` is held-out; `shuffled` is the same gain with reads of other sequences: the control.
    """

    gain: Estimate
    shuffled: Estimate
    n_answers: int


class PatchingRecord(Record):
    """State patching (D5) at token `at`: the part of the difference between two runs that the site's state carries.

    `denoise` is what the clean state restores in a corrupt run, `noise` what a corrupt state destroys in a clean one.
    """

    at: int
    denoise: Estimate | None
    noise: Estimate | None


class SiteRecord(Record):
    """One memory site, a group of them, or one alternative route, and what was measured of it.

    `effects[locus][intervention]` is the paired loss increase. `share` is the Shapley share of the headroom, as a
    fraction. `necessity` is the optimal-constant effect over the headroom, `sufficiency` is one minus the effect of
    switching every other route off over the headroom. `members` are the sites of a group, which are switched off
    together; `comparisons` are what the verdict rests on.
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
    probe: ProbeRecord | None = None
    patching: PatchingRecord | None = None
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
    base: PositionCurve | None
    prescriptions: list[PrescriptionRecord]
    replay: str
    warnings: list[str] = Field(default_factory=list)
    seconds: dict[str, float]
    versions: dict[str, str]
