"""When a reading is worth a warning, and what the warning says.

    idle            the share fell below a bound after it had been twice as much, or never rose in a part of training
    starved         idle or not yet at work, and next to no gradient arrives
    gate shut       idle or not yet at work, and the mean raw gate is next to 0
    collapsed       idle, and its read is one vector: by its variance or its rank, after it was not, or after that part
    state blow-up   the norm of the state is many times the median of the earlier ones, or not finite

Each warns once, where it begins; again only after the memory has recovered, by twice the bound (half of it for a norm).
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from mnemoscope.examination.judgement.prescription import PRESCRIPTIONS, Prescription
from mnemoscope.experiments.watching.config import WatchConfig
from mnemoscope.experiments.watching.probe import Reading

Kind = Literal["idle", "starved", "gate shut", "collapsed", "state blow-up"]

KINDS: tuple[Kind, ...] = get_args(Kind)

ROWS: Mapping[Kind | Literal["nothing works"], tuple[str, str]] = {
    "nothing works": ("verdict is untrained", ""),
    "idle": ("verdict is decorative, redundant or load-bearing (shared)", ""),
    "starved": ("not used, and gradient share below 0.001", ""),
    "gate shut": ("not used, and mean raw gate below 0.01", ""),
    "collapsed": ("verdict is constant-bias", ""),
    "state blow-up": ("verdict is saturated", "train on longer sequences"),
}
"""The row of the examination's prescriptions that each calls for: its condition, and how its change begins.

"nothing works" is for memories that have never worked in a model where no memory and no route does."""

FIRM = 5
"""A memory has worked only where the demand was so many margins: below, shares are noise."""

FEWEST_NORMS = 3
MOST_NORMS = 25
"""Earlier norms that a norm is held against."""

SMALLEST_WIDTH = 4
"""Narrower reads have no rank to lose."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A memory that begins to be in trouble.

    Args:
        step: of the probe that saw it.
        site: which memory.
        kind: of trouble.
        says: what happened, with the figures.
        figures: of the memory at that step.
        prescription: what to change, in the words of an examination.
        source: of the prescription.
    """

    step: int
    site: str
    kind: Kind
    says: str
    figures: Mapping[str, float]
    prescription: str
    source: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.site}: {self.says}. To try: {self.prescription} ({self.source})"


class _Finding(NamedTuple):
    """What a reading says of one kind of trouble: whether it is there, whether it is surely not, and in words."""

    bad: bool
    well: bool
    says: str
    at_once: bool
    nothing_works: bool = False


def prescription_of(kind: Kind | Literal["nothing works"]) -> Prescription:
    """The row of the examination's table that belongs to a kind of trouble."""
    condition, begins = ROWS[kind]
    return next(row for row in PRESCRIPTIONS if row.condition == condition and row.change.startswith(begins))


class Alarms:
    """Follows the memories of one training.

    Args:
        config: what is worth a warning.
    """

    def __init__(self, config: WatchConfig) -> None:
        self.config = config
        self._well: set[tuple[str, str]] = set()
        """Sites and kinds that have been well since the last warning."""
        self._ill: set[tuple[str, str]] = set()
        self._best: dict[str, tuple[float, int]] = {}
        """The largest share since a memory last began to idle, and when."""
        self._norms: dict[str, list[float]] = {}

    def judge(self, reading: Reading, steps: int) -> list[Alarm]:
        """The troubles that begin with this reading.

        Args:
            reading: later than the last one.
            steps: of the whole training.
        """
        late = reading.step >= self.config.rise_by * steps
        return [
            Alarm(
                step=reading.step,
                site=site,
                kind=kind,
                says=finding.says,
                figures=dict(figures),
                prescription=row.change,
                source=row.source,
            )
            for site, figures in reading.memories.items()
            for kind, finding in self._findings(site, figures, reading)
            if self._begins((site, kind), finding, late)
            for row in [prescription_of("nothing works" if finding.nothing_works else kind)]
        ]

    def state(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "well": sorted(map(list, self._well)),
            "ill": sorted(map(list, self._ill)),
            "best": {site: list(best) for site, best in self._best.items()},
            "norms": self._norms,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` gave."""
        self._well, self._ill = ({(site, kind) for site, kind in state[name]} for name in ("well", "ill"))
        self._best = {site: (share, step) for site, (share, step) in state["best"].items()}
        self._norms = {site: list(norms) for site, norms in state["norms"].items()}

    def _begins(self, which: tuple[str, str], finding: _Finding, late: bool) -> bool:
        if finding.bad and which not in self._ill and (finding.at_once or late or which in self._well):
            self._ill.add(which)
            self._well.discard(which)
            return True
        if finding.well:
            self._ill.discard(which)
            self._well.add(which)
        return False

    def _findings(self, site: str, figures: Mapping[str, float], reading: Reading) -> Iterator[tuple[Kind, _Finding]]:
        config, share = self.config, figures["share"]
        idles = share < config.idle_below
        yield "idle", self._of_share(site, share, reading)
        if "gradient_share" in figures:
            says = "no gradient arrives: {} of that at all memories and routes"
            yield "starved", _below(figures["gradient_share"], config.starve_below, idles, says)
        if "gate" in figures:
            says = "its gate is shut: mean {} before any floor"
            yield "gate shut", _below(figures["gate"], config.shut_below, idles, says)
        yield "collapsed", self._of_read(figures, idles)
        if "state_norm" in figures:
            yield "state blow-up", self._of_norm(site, figures["state_norm"])

    def _of_share(self, site: str, share: float, reading: Reading) -> _Finding:
        config, (best, when) = self.config, self._best.get(site, (0.0, 0))
        works = share >= 2 * config.idle_below and reading.demand >= FIRM * config.margin
        had = f"it was {best:.0%} at step {when}" if when else "it has never worked"
        if works and share >= best:
            self._best[site] = (share, reading.step)
        elif share < config.idle_below:
            self._best.pop(site, None)
        nothing = not reading.demand >= config.margin
        had += f"; all memories and routes together are worth {reading.demand:.3g} nats" if nothing else ""
        says = f"it idles: its share is {share:.0%}, {had}"
        return _Finding(share < config.idle_below, works, says, at_once=False, nothing_works=nothing and not when)

    def _of_read(self, figures: Mapping[str, float], idles: bool) -> _Finding:
        config = self.config
        variance, rank = figures.get("read_variance", 1.0), figures.get("read_rank", math.inf)
        if figures.get("read_width", 0.0) < SMALLEST_WIDTH:
            rank = math.inf
        flat = variance < config.flat_below
        bad = idles and (flat or rank < config.rank_below)
        well = variance >= 2 * config.flat_below and rank >= config.rank_below + 0.5
        to = f"one vector: {variance:.1%} of it varies" if flat else f"one direction: its rank is {rank:.1f}"
        return _Finding(bad, well, f"its read has collapsed to {to}", at_once=False)

    def _of_norm(self, site: str, norm: float) -> _Finding:
        earlier = self._norms.get(site, [])
        usual = statistics.median(earlier) if len(earlier) >= FEWEST_NORMS else math.inf
        if math.isfinite(norm):
            self._norms[site] = [*earlier, norm][-MOST_NORMS:]
        bound = self.config.blow_up * usual
        bad = not math.isfinite(norm) or (usual > 0 and norm > bound)
        than = "" if usual == math.inf else f", {usual:.3g} before"
        return _Finding(bad, norm < bound / 2, f"its state blows up: norm {norm:.3g}{than}", at_once=True)


def _below(value: float, bound: float, idles: bool, says: str) -> _Finding:
    return _Finding(idles and value < bound, value >= 2 * bound, says.format(f"{value:.2g}"), at_once=True)


def lines(alarms: Sequence[Alarm]) -> dict[str, float]:
    """As a row of metrics holds the warnings that begin."""
    return {f"watch.warning.{alarm.kind.replace(' ', '_')}.{alarm.site}": 1.0 for alarm in alarms}
