"""The decision: one predicate per row, the first that holds wins, `inconclusive` is what is left.

An effect is *above* the margin if the lower end of its interval is, and *below* it if the upper end is; an effect
whose interval straddles the margin is neither, so that no row which needs it can hold. Intervals are at the levels that
Holm's adjustment over everything that decides leaves to them (`mnemoscope.examination.judgement.family`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mnemoscope.examination.judgement.statistics import required_sequences
from mnemoscope.runs.examination import Estimate, Verdict

Outcome = Literal["above", "below", "open"]

UNTRAINED_NATS = 0.01
SOLE_NECESSITY = 0.5
SOLE_SHARE = 0.75
CARRIED = 0.2
STORED_OF_HEADROOM = 0.1
STARVED_GRADIENT_SHARE = 1e-3
STARVED_GATE = 0.01
SATURATED_DROP = 0.2
FULL_STATE = 0.8
STALE_ANSWERS = 0.1


@dataclass(frozen=True, kw_only=True)
class Saturation:
    """What speaks for a full memory.

    Args:
        at_lowest_load: effect of the best constant on the sequences with the fewest items.
        drop: accuracy there less accuracy at the highest load.
        state_share: effective rank of the state over the largest it can have; None where there is no state to see.
        stale_answers: share of answers that were right before a rewrite; None where nothing is rewritten.
        drifts: the state's norm grows beyond the length of training; None where nobody measured it.
    """

    at_lowest_load: Estimate
    drop: float
    state_share: float | None = None
    stale_answers: float | None = None
    drifts: bool | None = None

    @property
    def is_full(self) -> bool:
        """Accuracy falls with the load, and the state shows why."""
        full = self.state_share is not None and self.state_share >= FULL_STATE
        stale = self.stale_answers is not None and self.stale_answers > STALE_ANSWERS
        return self.drop >= SATURATED_DROP and (full or stale or bool(self.drifts))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the table looks at, for one site; effects in nats per scored token, at the read unless said otherwise.

    Args:
        margin: equivalence margin.
        gain: what the model is better than the best constant output; None where nobody can say.
        headroom: everything off: all memories and all long-range routes.
        optimal_constant, zero, random_constant: single effects; None where a loss was not finite.
        position_constant: the best constant of each position; None where lengths differ, or one constant does as well.
        local_horizon: history cut to the local window; None where the state cannot be edited.
        single_vector: for a bank, or banks together, every slot replaced by the mean slot; None for other memories.
        conditional: effect of the site when everything else is off already; None where there is nothing else.
        share: Shapley share of the headroom.
        necessity: optimal-constant effect over headroom.
        routes_known: whether anybody said what could replace the memory.
        denoise: what the clean state restores of the answer in a run with another history; None where not measured.
        stored: whether a probe finds the answer in the read; None where no probe ran.
        starving: next to no gradient arrives, or the write gate is shut.
        saturation: what speaks for a full memory; None for data of one load.
    """

    margin: float
    gain: Estimate | None
    headroom: Estimate
    optimal_constant: Estimate
    zero: Estimate | None
    random_constant: Estimate | None
    local_horizon: Estimate | None
    single_vector: Estimate | None
    conditional: Estimate | None
    share: Estimate | None
    necessity: float | None
    routes_known: bool
    position_constant: Estimate | None = None
    denoise: Estimate | None = None
    stored: bool | None = None
    starving: bool = False
    saturation: Saturation | None = None

    @property
    def without_content(self) -> Estimate:
        """What the read's content is worth: beyond a constant for each position where that was fitted."""
        return self.optimal_constant if self.position_constant is None else self.position_constant

    def above(self, effect: Estimate | None) -> bool:
        """Surely more than the margin."""
        return effect is not None and effect.low > self.margin

    def below(self, effect: Estimate | None) -> bool:
        """Surely less than the margin."""
        return effect is not None and effect.high < self.margin

    @property
    def at_lowest_load(self) -> Estimate | None:
        """The effect that tells a memory that is full from one that was never used; None for one that is not full."""
        return self.saturation.at_lowest_load if self.saturation is not None and self.saturation.is_full else None

    @property
    def holds_history(self) -> bool:
        """Whether what it holds is more than the local window, or for a bank more than one vector.

        A state that carries the answer into a run with another history says so as well.
        """
        if self.single_vector is not None:
            return self.above(self.single_vector)
        return self.above(self.local_horizon) or (self.denoise is not None and self.denoise.low > CARRIED)


@dataclass(frozen=True)
class Row:
    """A row of the decision table."""

    verdict: Verdict
    holds: Callable[[Facts], bool]
    because: str
    needs_routes: bool = True


def no_better_than_constant(gain: Estimate | None) -> bool:
    """Whether a model is untrained: surely no better than the best constant output."""
    return gain is not None and gain.high < UNTRAINED_NATS


def _is_untrained(facts: Facts) -> bool:
    return no_better_than_constant(facts.gain)


def _is_not_demanded(facts: Facts) -> bool:
    return facts.below(facts.headroom)


def _is_clock(facts: Facts) -> bool:
    return facts.above(facts.optimal_constant) and facts.below(facts.position_constant)


def _is_redundant(facts: Facts) -> bool:
    return facts.below(facts.without_content) and facts.above(facts.conditional)


def _is_dispensable(facts: Facts) -> bool:
    """Missed neither alone nor when everything else is off; an open conditional effect leaves redundancy open."""
    return facts.below(facts.optimal_constant) and (facts.conditional is None or facts.below(facts.conditional))


def _is_scale(facts: Facts) -> bool:
    return _is_dispensable(facts) and facts.above(facts.zero) and facts.below(facts.random_constant)


def _is_constant_bias(facts: Facts) -> bool:
    return _is_dispensable(facts) and facts.above(facts.zero) and facts.above(facts.random_constant)


def _is_decorative(facts: Facts) -> bool:
    return _is_dispensable(facts) and facts.below(facts.zero)


def _is_starved(facts: Facts) -> bool:
    return _is_decorative(facts) and facts.stored is False and facts.starving


def _is_saturated(facts: Facts) -> bool:
    return facts.above(facts.at_lowest_load)


def _is_in_use(facts: Facts) -> bool:
    """Its content matters; an open effect at the lowest load leaves saturation open."""
    not_full = facts.at_lowest_load is None or facts.below(facts.at_lowest_load)
    return facts.above(facts.without_content) and not_full


def _is_local_only(facts: Facts) -> bool:
    return facts.single_vector is None and _is_in_use(facts) and facts.below(facts.local_horizon)


def _is_load_bearing(facts: Facts) -> bool:
    return _is_in_use(facts) and facts.holds_history


def _is_sole(facts: Facts) -> bool:
    enough = facts.necessity is not None and facts.necessity >= SOLE_NECESSITY
    return _is_load_bearing(facts) and enough and facts.share is not None and facts.share.value >= SOLE_SHARE


def _is_ungraded(facts: Facts) -> bool:
    return _is_load_bearing(facts) and not facts.routes_known


_HISTORY_USED, _SLOTS_USED = "its history is used", "its slots are told apart"

TABLE: tuple[Row, ...] = (
    Row("untrained", _is_untrained, "the model is no better than the best constant output", needs_routes=False),
    Row("not-demanded", _is_not_demanded, "without any memory and any long-range route the loss is the same"),
    Row("clock", _is_clock, "a constant for each position does as well: it tells the time, not the content"),
    Row("redundant", _is_redundant, "not missed alone, but missed once everything else is off"),
    Row("decorative (scale)", _is_scale, "zeroing hurts, but any constant of its size does as well"),
    Row("constant-bias", _is_constant_bias, "worth exactly one learned vector: that vector matters, its content not"),
    Row("starved", _is_starved, "not missed, the answer is not stored, and no gradient could teach it to be"),
    Row("decorative", _is_decorative, "neither the best constant nor zero in its place is missed"),
    Row("saturated", _is_saturated, "used at a small load, and full: accuracy falls as more is to be held"),
    Row("local-only", _is_local_only, "the module is used, its memory beyond the local window is not", False),
    Row("load-bearing", _is_ungraded, f"{_HISTORY_USED}; routes unknown, so not graded", needs_routes=False),
    Row("load-bearing (sole)", _is_sole, f"{_HISTORY_USED}, and little else could supply it"),
    Row("load-bearing (shared)", _is_load_bearing, f"{_HISTORY_USED}, and others carry part of it"),
)
"""In order; the first row that holds wins."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict (None where only effects can be given), why, and the sequences that would decide an open one."""

    verdict: Verdict | None
    because: str
    required_sequences: int | None = None


def decide(facts: Facts, n_test: int) -> Decision:
    """The first row that holds; rows that need declared routes are passed over where routes are unknown."""
    for row in TABLE:
        if row.holds(facts) and (facts.routes_known or not row.needs_routes):
            return Decision(verdict=row.verdict, because=_because(row, facts))
    if not facts.routes_known and any(row.holds(facts) for row in TABLE):
        return Decision(verdict=None, because="effects only: whether others replace it needs routes=, unknown here")
    return _inconclusive(facts, n_test)


def _because(row: Row, facts: Facts) -> str:
    """The reason of a row; of a bank, which has no history, what its slots say."""
    return row.because if facts.single_vector is None else row.because.replace(_HISTORY_USED, _SLOTS_USED)


DECIDING = (
    "headroom",
    "optimal_constant",
    "position_constant",
    "zero",
    "random_constant",
    "conditional",
    "single_vector",
    "local_horizon",
    "at_lowest_load",
)
"""The effects that rows compare with the margin; attributes of `Facts`."""


def outcomes(facts: Facts) -> dict[str, tuple[Estimate, Outcome]]:
    """Every deciding effect that was measured, and on which side of the margin it lies."""
    measured = {name: getattr(facts, name) for name in DECIDING if getattr(facts, name) is not None}
    return {
        name: (effect, "above" if facts.above(effect) else "below" if facts.below(effect) else "open")
        for name, effect in measured.items()
    }


def _inconclusive(facts: Facts, n_test: int) -> Decision:
    open_ones = {name: effect for name, (effect, outcome) in outcomes(facts).items() if outcome == "open"}
    if not open_ones:
        reason = "its value matters, but its state cannot be cut to a window, so whether its history does is open"
        return Decision(verdict="inconclusive", because=reason)
    required = max(required_sequences(effect, n_test, facts.margin) for effect in open_ones.values())
    straddling = f"the interval straddles the margin: {', '.join(open_ones).replace('_', ' ')}"
    return Decision(verdict="inconclusive", because=straddling, required_sequences=max(required, n_test + 1))


def flags_of(
    facts: Facts, verdict: Verdict | None, resample: Estimate | None, entropy: float | None, reachable: bool
) -> list[str]:
    """Remarks beside the verdict; what explains one verdict stands beside no other.

    A memory of data that do not ask for it may hold the answer, and one that is a backup is used when it is needed: of
    neither can be said that what it stores is not used.
    """
    flags = []
    if facts.without_content.high < -facts.margin:
        flags.append("harmful: the best constant is better than the memory")
    if not reachable:
        flags.append("disconnected: even a large random read changes no loss")
    if verdict == "constant-bias" and facts.above(resample):
        flags.append("noisy: another sequence's read does harm")
    if verdict == "decorative" and facts.stored:
        flags.append("stored, not used: a probe finds the answer in the read")
    if facts.single_vector is not None and entropy is not None and facts.below(facts.optimal_constant):
        flags += ["uniform"] if entropy > 0.98 else ["winner-take-all"] if entropy < 0.1 else []
    return flags
