"""Verdicts in plain words: one sentence per site, one headline per examination, and what would flip a verdict."""

import math
from collections import Counter
from collections.abc import Callable

from mnemoscope.reporting.flip import flip
from mnemoscope.reporting.glossary import MEANINGS
from mnemoscope.reporting.numbers import ABSENT, confidence, interval, nats, nats_with_interval, percent, plain
from mnemoscope.reporting.reading import at_local_window, effect, primary
from mnemoscope.runs import Examination, SiteRecord
from mnemoscope.runs.examination import ProbeRecord, Verdict

__all__ = ["at_local_window", "effect", "flip", "headline", "primary", "sentence", "shown_level"]


def shown_level(examination: Examination) -> str:
    """The level of the intervals that are shown, in per cent; several looks at the data leave more than 95 %."""
    return confidence(examination.base_loss.level)


def headline(examination: Examination) -> str:
    """The examination in one line."""
    unfinished = " The examination is unfinished." if examination.missing else ""
    return _counted(examination.sites) + unfinished


def _counted(sites: list[SiteRecord]) -> str:
    if not sites:
        return "No memory was found in this model."
    counts = Counter(site.verdict for site in sites)
    if counts[None] == len(sites):
        return f"{_memories(sites)}, effects measured, no verdict."
    names = [name for name in [*MEANINGS, None] if counts[name]]
    if len(sites) == 1:
        return f"The {'part' if sites[0].part else 'memory'} is {names[0]}."
    if len(names) == 1:
        several = "parts" if any(site.part for site in sites) else "memories"
        return f"{'Both' if len(sites) == 2 else f'All {len(sites)}'} {several} are {names[0]}."
    return f"{_memories(sites)}: " + ", ".join(f"{counts[n]} {n or 'without verdict'}" for n in names) + "."


def sentence(site: SiteRecord, examination: Examination) -> str:
    """What the numbers say about one site, without its name and verdict."""
    if effect(site, "optimal_constant") is None and site.verdict not in ("untrained", "not-demanded"):
        return site.because or "Its effect was not measured."
    special = _SENTENCES.get(site.verdict) if site.verdict else None
    return (special or _replaced)(site, examination)


def _memories(sites: list[SiteRecord]) -> str:
    """How many there are; parts, such as heads, are counted as parts."""
    n = len(sites)
    if any(site.part for site in sites):
        return "One part of a memory" if n == 1 else f"{n} parts of memories"
    return "One memory" if n == 1 else f"{n} memories"


def _replaced(site: SiteRecord, examination: Examination) -> str:
    """The sentence that is true of every site: the best-constant effect against headroom or margin."""
    estimate = effect(site, "optimal_constant")
    value = nats(estimate.value if estimate else None)
    replacing = f"Replacing its {primary(site)} by the best constant"
    if site.members:
        replacing = f"Replacing the reads of its {len(site.members)} sites by the best constants"
    if value == ABSENT:
        return f"{replacing} gave no number."
    measured = f"{replacing} costs {value} nats {interval(estimate)}".rstrip()
    if estimate is not None and estimate.high < examination.margin:
        return f"{measured}, within the margin of {nats(examination.margin)} nats."
    headroom = examination.headroom.value
    if math.isfinite(headroom) and headroom > 0:
        return f"{measured} of the {nats(headroom)} nats of headroom."
    return f"{measured}."


def _shared(site: SiteRecord, examination: Examination) -> str:
    share = site.share.value if site.share else None
    if percent(share) == ABSENT:
        return _replaced(site, examination)
    return f"{_replaced(site, examination)} Its Shapley share of the headroom is {percent(share)}."


def _redundant(site: SiteRecord, examination: Examination) -> str:
    first = _replaced(site, examination)
    if site.conditional is None:
        return first
    return f"{first} With everything else off, it is worth {nats_with_interval(site.conditional)} nats."


def _one_vector(site: SiteRecord, examination: Examination) -> str:
    zero = effect(site, "zero")
    first = _replaced(site, examination)
    if zero is None:
        return first
    return f"{first} Zeroing it costs {nats_with_interval(zero)} nats: it is worth one vector."


def _clock(site: SiteRecord, examination: Examination) -> str:
    timed = effect(site, "position_constant")
    first = _replaced(site, examination)
    if timed is None:
        return first
    return f"{first} A constant for each position costs {nats_with_interval(timed)} nats: it tells the time."


def _starved(site: SiteRecord, examination: Examination) -> str:
    told = [_replaced(site, examination)]
    if site.probe is not None:
        told.append(
            f"A probe of the answer gains {nats_with_interval(site.probe.gain)} nats from it{_above(site.probe)}: "
            "nothing is stored."
        )
    shares = (("gradient_share", "Its share of the gradient is"), ("gate_mean", "Its gate is open by"))
    told += [f"{words} {plain(site.measures[name])}." for name, words in shares if name in site.measures]
    return " ".join(told)


def _above(probe: ProbeRecord) -> str:
    untrained = probe.untrained
    return "" if untrained is None else f", {nats_with_interval(untrained)} from that of an untrained copy"


def _saturated(site: SiteRecord, examination: Examination) -> str:
    told, loads = [_replaced(site, examination)], examination.loads
    if len(loads) > 1:
        first, last = loads[0], loads[-1]
        told.append(
            f"Accuracy falls from {percent(first.accuracy)} with {first.load} to remember to {percent(last.accuracy)} "
            f"with {last.load}."
        )
    if "state_share" in site.measures:
        told.append(f"Its state uses {percent(site.measures['state_share'])} of the rank it can have.")
    return " ".join(told)


def _local(site: SiteRecord, examination: Examination) -> str:
    cut = at_local_window(site, examination)
    first = _replaced(site, examination)
    if cut is None:
        return first
    window = examination.local_window
    return f"{first} Keeping only its last {window} tokens costs {nats_with_interval(cut)} nats: no memory is used."


def _scale(site: SiteRecord, examination: Examination) -> str:
    random = effect(site, "random_constant")
    first = _replaced(site, examination)
    if random is None:
        return first
    return f"{first} A random constant of the same size costs {nats_with_interval(random)} nats."


def _not_demanded(site: SiteRecord, examination: Examination) -> str:
    headroom = nats_with_interval(examination.headroom)
    return (
        f"Distant history is worth {headroom} nats on these data, against a margin of {nats(examination.margin)} nats: "
        "no memory could show its worth here."
    )


def _untrained(site: SiteRecord, examination: Examination) -> str:
    base, constant = nats_with_interval(examination.base_loss), nats(examination.constant_output_loss)
    return f"The model's loss is {base} nats, a constant output's {constant} nats: there is nothing to judge yet."


def _inconclusive(site: SiteRecord, examination: Examination) -> str:
    n = site.required_sequences
    first = _replaced(site, examination)
    if n is None:
        return first
    return f"{first} About {n:,} sequences would decide; {examination.n_test:,} were used."


_SENTENCES: dict[Verdict, Callable[[SiteRecord, Examination], str]] = {
    "load-bearing (shared)": _shared,
    "redundant": _redundant,
    "constant-bias": _one_vector,
    "clock": _clock,
    "starved": _starved,
    "saturated": _saturated,
    "local-only": _local,
    "decorative (scale)": _scale,
    "not-demanded": _not_demanded,
    "untrained": _untrained,
    "inconclusive": _inconclusive,
}
