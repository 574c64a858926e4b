"""The seventeen kinds of planted memories: how to build one, what to examine it on, and what must come out."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mnemoscope.examination import Budget, examine
from mnemoscope.examination.judgement.subsets import DEMANDING
from mnemoscope.examination.protocol.calibration import ALL_MEMORIES
from mnemoscope.experiments.planted import models, world
from mnemoscope.experiments.planted.models import Planted
from mnemoscope.experiments.planted.world import Draw, World
from mnemoscope.runs import Examination, SiteRecord
from mnemoscope.runs.examination import Verdict

N_BATCHES, BATCH_SIZE = 22, 32

BUDGET = Budget(
    n_calibration=192,
    n_test=512,
    fit_steps=120,
    joint_fit_steps=60,
    windows=(1,),
    contribution=False,
    n_resamples=1000,
)
"""What the examination of one instance may cost."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of planted memory.

    Args:
        name: G1 ... G17.
        what: in a few words.
        build: an instance.
        verdict: what each of its memories must get.
        draw: the data it is examined on.
        adapt: a world into one that has room for these data.
        together: what all memories together must get, where there are several.
        subsets: what each memory must get on a part of the data.
        flag: how a remark beside the verdict must begin.
    """

    name: str
    what: str
    build: Callable[[World], Planted]
    verdict: Verdict
    draw: Draw = world.recall
    adapt: Callable[[World], World] = world.as_drawn
    together: Verdict | None = None
    subsets: Mapping[str, Verdict] = field(default_factory=dict)
    flag: str | None = None

    def examine(self, seed: int) -> Examination:
        """Examine an instance."""
        drawn = self.adapt(World.draw(seed))
        model = self.build(drawn)
        return examine(model, drawn.batches(self.draw, N_BATCHES, BATCH_SIZE), budget=BUDGET)

    @property
    def summary(self) -> str:
        """Everything that must come out, in a few words."""
        more = [f"together {self.together}"] if self.together else []
        more += [f"{subset}: {verdict}" for subset, verdict in self.subsets.items()]
        more += [f"flag {self.flag!r}"] if self.flag else []
        return "; ".join([self.verdict, *more])

    def expected(self, n_sites: int) -> dict[str, str]:
        """Everything that must come out, by what it is about."""
        found: dict[str, str] = {f"memory {n}": self.verdict for n in range(1, n_sites + 1)}
        found |= {"together": self.together} if self.together else {}
        found |= {f"{subset}, memory {n}": v for subset, v in self.subsets.items() for n in range(1, n_sites + 1)}
        return found | ({f"flag {self.flag}": "yes"} if self.flag else {})

    def got(self, examination: Examination) -> dict[str, str]:
        """The same of an examination."""
        found = _verdicts(examination.sites)
        if self.together:
            found["together"] = str(next(of.verdict for of in examination.groups if of.name == ALL_MEMORIES))
        for subset in examination.subsets:
            if subset.name in self.subsets:
                found |= {f"{subset.name}, {name}": verdict for name, verdict in _verdicts(subset.sites).items()}
        if self.flag:
            flagged = all(any(f.startswith(self.flag) for f in site.flags) for site in examination.sites)
            found[f"flag {self.flag}"] = "yes" if flagged else "no"
        return found


def _verdicts(sites: Sequence[SiteRecord]) -> dict[str, str]:
    return {f"memory {n}": str(site.verdict) for n, site in enumerate(sites, start=1)}


_STORED = "stored, not used"

_ALL = (
    Kind(name="G1", what="load-bearing", build=models.load_bearing, verdict="load-bearing (sole)"),
    Kind(name="G2", what="disconnected", build=models.disconnected, verdict="decorative", flag="disconnected"),
    Kind(name="G3", what="null space", build=models.null_space, verdict="decorative", flag=_STORED),
    Kind(name="G4", what="gate shut", build=models.gate_shut, verdict="decorative", flag=_STORED),
    Kind(name="G5", what="uniform bank", build=models.uniform_bank, verdict="constant-bias", flag="uniform"),
    Kind(
        name="G6",
        what="winner-take-all bank",
        build=models.winner_take_all_bank,
        verdict="constant-bias",
        flag="winner-take-all",
    ),
    Kind(name="G7", what="clock", build=models.clock, draw=world.shifted_by_phase, verdict="clock"),
    Kind(name="G8", what="backup", build=models.backup, verdict="redundant", together="load-bearing (sole)"),
    Kind(
        name="G9",
        what="both needed",
        build=models.both_needed,
        draw=world.shifted_by_first_key,
        verdict="load-bearing (shared)",
        together="load-bearing (sole)",
    ),
    Kind(name="G10", what="stored, unused", build=models.stored_unused, verdict="decorative", flag=_STORED),
    Kind(name="G11", what="starved", build=models.starved, verdict="starved"),
    Kind(
        name="G12",
        what="saturated",
        build=models.saturated,
        adapt=world.many_keys,
        draw=world.ladder,
        verdict="saturated",
    ),
    Kind(name="G13", what="local-only", build=models.local_only, draw=world.two_before, verdict="local-only"),
    Kind(name="G14", what="harmful", build=models.harmful, verdict="decorative", flag="harmful"),
    Kind(name="G15", what="scale trap", build=models.scale_trap, verdict="decorative (scale)"),
    Kind(name="G16", what="not demanded", build=models.not_demanded, draw=world.last_value, verdict="not-demanded"),
    Kind(
        name="G17",
        what="seldom used",
        build=models.seldom_used,
        adapt=world.long,
        draw=world.seldom_demanding,
        verdict="load-bearing (sole)",
        subsets={DEMANDING: "load-bearing (sole)"},
    ),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}
"""By name, in order."""


def kinds_named(names: Sequence[str]) -> list[Kind]:
    """Kinds by name, in order; all of them if none is named.

    Raises:
        ValueError: an unknown name.
    """
    for name in names:
        if name not in KINDS:
            close = difflib.get_close_matches(name.upper(), KINDS, n=1, cutoff=0.0)
            raise ValueError(f"planted kinds must be among {', '.join(KINDS)}, got {name!r}; nearest valid: {close[0]}")
    return [kind for kind in _ALL if not names or kind.name in names]
