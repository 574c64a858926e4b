"""The counterfactual of a verdict: which number would have to be another, and how far it is from being so."""

import math
from dataclasses import dataclass
from typing import Literal

from mnemoscope.reporting.numbers import nats, percent
from mnemoscope.reporting.reading import deciding
from mnemoscope.runs import Estimate, Examination, SiteRecord
from mnemoscope.runs.examination import Verdict

SOLE_NECESSITY = 0.5
SOLE_SHARE = 0.75
SATURATED_DROP = 0.2
CARRIED = 0.2
UNTRAINED_NATS = 0.01

Side = Literal["above", "below"]

_CONTENT = ("position_constant", "optimal_constant")
_HISTORY = ("single_vector", "local_horizon")
_LOWEST_LOAD = ("at_lowest_load",)
_DISPENSABLE: dict[tuple[str, ...], Side] = {("optimal_constant",): "below", ("conditional",): "below"}

RESTS_ON: dict[Verdict, dict[tuple[str, ...], Side]] = {
    "not-demanded": {("headroom",): "below"},
    "clock": {("optimal_constant",): "above", ("position_constant",): "below"},
    "redundant": {_CONTENT: "below", ("conditional",): "above"},
    "decorative (scale)": {**_DISPENSABLE, ("zero",): "above", ("random_constant",): "below"},
    "constant-bias": {**_DISPENSABLE, ("zero",): "above", ("random_constant",): "above"},
    "starved": {**_DISPENSABLE, ("zero",): "below"},
    "decorative": {**_DISPENSABLE, ("zero",): "below"},
    "saturated": {_LOWEST_LOAD: "above"},
    "local-only": {_CONTENT: "above", _LOWEST_LOAD: "below", ("local_horizon",): "below"},
    "load-bearing": {_CONTENT: "above", _LOWEST_LOAD: "below", _HISTORY: "above"},
    "load-bearing (sole)": {_CONTENT: "above", _LOWEST_LOAD: "below", _HISTORY: "above"},
    "load-bearing (shared)": {_CONTENT: "above", _LOWEST_LOAD: "below", _HISTORY: "above"},
}
"""The sides of the margin on which effects must lie; of several names, the first that was measured counts."""


@dataclass(frozen=True)
class Held:
    """An effect that a verdict rests on, and the side of the margin it lies on."""

    name: str
    side: Side
    effect: Estimate

    @property
    def end(self) -> float:
        """The end of its interval that is nearer to the margin."""
        return self.effect.low if self.side == "above" else self.effect.high

    def distance(self, margin: float) -> float:
        """Nats from that end to the margin."""
        return self.end - margin if self.side == "above" else margin - self.end


def flip(site: SiteRecord, examination: Examination) -> str:
    """What would have to be different for another verdict, in one line; empty where the record does not tell.

    Of all the effects that the verdict rests on, it names the one that is nearest to the margin.
    """
    if site.verdict == "untrained":
        return _untrained(examination)
    if site.verdict == "inconclusive":
        return _open(site, examination)
    nearest = _nearest(site, examination)
    if nearest is None:
        return ""
    end, moved = ("lower", "fall below") if nearest.side == "above" else ("upper", "exceed")
    return (
        f"To flip this verdict, the {end} end of {_words(nearest.name, examination)}, now {nats(nearest.end)} nats, "
        f"would need to {moved} the margin of {nats(examination.margin)} nats{_grade(site, examination)}."
    )


def _nearest(site: SiteRecord, examination: Examination) -> Held | None:
    margin = examination.margin
    found = [held for held in _held(site, examination) if math.isfinite(held.distance(margin))]
    return min(found, key=lambda held: held.distance(margin), default=None)


def _held(site: SiteRecord, examination: Examination) -> list[Held]:
    found: list[Held] = []
    for names, side in (RESTS_ON.get(site.verdict, {}) if site.verdict else {}).items():
        measured = [(name, effect) for name in names if (effect := deciding(site, name, examination)) is not None]
        if measured and not (names == _HISTORY and _is_carried(site)):
            found.append(Held(measured[0][0], side, measured[0][1]))
    return found


def _is_carried(site: SiteRecord) -> bool:
    """Whether patching alone shows that the history is used, so that no cut of it decides."""
    return site.patching is not None and site.patching.denoise is not None and site.patching.denoise.low > CARRIED


def _grade(site: SiteRecord, examination: Examination) -> str:
    """What else would do: a share and a necessity that change the grade, an accuracy that does not fall."""
    if site.verdict == "saturated":
        return _falling(examination)
    if site.share is None or site.necessity is None or not math.isfinite(site.share.value + site.necessity):
        return ""
    if site.verdict == "load-bearing (sole)":
        return (
            f"; a share below {percent(SOLE_SHARE)} or a necessity below {percent(SOLE_NECESSITY)} would make it shared"
        )
    if site.verdict == "load-bearing (shared)":
        return f"; a share of {percent(SOLE_SHARE)} and a necessity of {percent(SOLE_NECESSITY)} would make it sole"
    return ""


def _untrained(examination: Examination) -> str:
    constant = examination.constant_output_loss
    if constant is None or not math.isfinite(constant):
        return ""
    least = nats(constant - UNTRAINED_NATS)
    return (
        f"To flip this verdict, the model's loss would need to fall below {least} nats, {UNTRAINED_NATS} less than a "
        "constant output's."
    )


def _falling(examination: Examination) -> str:
    loads = examination.loads
    if len(loads) < 2:
        return ""
    first, last = loads[0], loads[-1]
    return (
        f", or accuracy to fall by less than {100 * SATURATED_DROP:.0f} points from load {first.load} to {last.load}, "
        f"not by {100 * (first.accuracy - last.accuracy):.0f}"
    )


def _open(site: SiteRecord, examination: Examination) -> str:
    names = [comparison.name for comparison in site.comparisons if comparison.outcome == "open"]
    if not names or not math.isfinite(examination.margin):
        return ""
    words = " and ".join(_words(name, examination) for name in names)
    verb = "needs" if len(names) == 1 else "need"
    return f"To decide, {words} {verb} an interval on one side of the margin of {nats(examination.margin)} nats."


def _words(name: str, examination: Examination) -> str:
    if name == "local_horizon":
        return f"the effect of keeping only its last {examination.local_window} tokens"
    return _WORDS.get(name, f"the effect of {name.replace('_', ' ')}")


_WORDS = {
    "optimal_constant": "the best-constant effect",
    "position_constant": "the effect of a constant for each position",
    "zero": "the effect of zeroing it",
    "random_constant": "the effect of a random constant",
    "conditional": "its worth with everything else off",
    "single_vector": "the effect of one vector for all its slots",
    "headroom": "the headroom",
    "at_lowest_load": "the best-constant effect at the lowest load",
}
