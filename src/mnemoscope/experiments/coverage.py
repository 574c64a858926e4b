"""Whether intervals hold what they say: many samples from one bank of differences whose mean is known."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mnemoscope.examination.interventions.reads import Constant, Intervention, Zero
from mnemoscope.examination.judgement.family import Level, adjusted
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.examination.subject.sites import Point
from mnemoscope.experiments.planted.models import load_bearing
from mnemoscope.experiments.planted.world import World, recall
from mnemoscope.runs import Estimate

BANK = 200_000
SEQUENCES_AT_ONCE = 2_000
SAMPLES = 2_000
SAMPLE_SIZE = 1_024
N_RESAMPLES = 10_000

LOOKS = 3
EFFECTS = 4
LOOKS_RESAMPLES = 2_000
DISTANCE = 4.5
"""Standard errors at the last look between effects and the margin, where some looks before the last shall decide."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many intervals of a level hold the known mean."""

    level: float
    n_samples: int
    sample_size: int
    n_holding: int
    mean: float
    bank: int

    def __str__(self) -> str:
        """For example "95.1% of 2,000 intervals at 95% hold the mean ..."."""
        return (
            f"{self.share:.1%} of {self.n_samples:,} intervals at {self.level:.0%} hold the mean, {self.mean:.3f} nats "
            f"(samples of {self.sample_size:,} from {self.bank:,} per-sequence differences of G1, zeros for its read)"
        )

    @property
    def share(self) -> float:
        """Of all intervals."""
        return self.n_holding / self.n_samples


@dataclass(frozen=True, kw_only=True)
class SequentialCoverage:
    """What several looks at growing data and Holm's steps over several effects leave of the 5 %.

    Args:
        looks: sequences seen at each.
        n_effects: effects that are decided together.
        n_examinations: simulated ones.
        n_false: of those whose effects all lie exactly on the margin, how many place one above or below it at some
            look, where they might have stopped.
        n_holding: intervals that hold the mean at the look that decides, where effects lie a little off the margin.
        stopped: how many of these examinations decide at each look.
    """

    looks: tuple[int, ...]
    n_effects: int
    n_examinations: int
    n_false: int
    n_holding: int
    stopped: tuple[int, ...]

    def __str__(self) -> str:
        """Both shares, and where the examinations stopped."""
        seen = ", ".join(f"{n:,}" for n in self.looks)
        ended = ", ".join(f"{n / self.n_examinations:.0%}" for n in self.stopped)
        return (
            f"{self.familywise_error:.1%} of {self.n_examinations:,} simulated examinations place one of "
            f"{self.n_effects} effects that lie on the margin above or below it at any of {len(self.looks)} looks "
            f"({seen} sequences; wanted: at most 5 %); with effects off the margin the looks decide in {ended}, and "
            f"{self.share:.1%} of the intervals at the look that decides hold the mean"
        )

    @property
    def familywise_error(self) -> float:
        """Of all examinations."""
        return self.n_false / self.n_examinations

    @property
    def share(self) -> float:
        """Of all intervals at the look that decides."""
        return self.n_holding / (self.n_examinations * self.n_effects)


def sequential_coverage(
    seed: int,
    n_examinations: int = SAMPLES,
    n_resamples: int = LOOKS_RESAMPLES,
    n_looks: int = LOOKS,
    alpha: float = 0.05,
) -> SequentialCoverage:
    """Familywise error, and coverage at the look that decides, of the procedure that verdicts rest on.

    Every simulated examination draws its sequences from one bank of paired differences, as many effects of a planted
    memory on each; looks, levels, Holm's steps and intervals are those of an examination (`family.adjusted`).
    """
    bank = bank_of_effects(seed)
    rng = np.random.default_rng([seed, len(bank), n_looks])
    ends = [SAMPLE_SIZE * look // n_looks for look in range(1, n_looks + 1)]
    levels = [
        Level(fractions=tuple(end / SAMPLE_SIZE for end in ends), look=look, alpha=alpha) for look in range(n_looks)
    ]
    bootstraps = [Bootstrap(end, n_resamples, seed) for end in ends]
    means, errors = bank.mean(0), bank.std(0) / SAMPLE_SIZE**0.5
    n_false, n_holding, stopped = 0, 0, Counter[int]()
    for _ in range(n_examinations):
        drawn = bank[rng.integers(0, len(bank), SAMPLE_SIZE)] - means
        at_looks = list(zip(ends, bootstraps, levels, strict=True))
        n_false += any(_misses(_family(drawn[:end], 0.0, of, level)) for end, of, level in at_looks)
        shifted, margin = drawn / errors, DISTANCE
        for look, (end, of, level) in enumerate(at_looks):
            found = _family(shifted[:end], margin, of, level)
            if look == n_looks - 1 or all(effect.high < margin or effect.low > margin for effect in found):
                stopped[look] += 1
                n_holding += len(found) - _misses(found)
                break
    return SequentialCoverage(
        looks=tuple(ends),
        n_effects=bank.shape[1],
        n_examinations=n_examinations,
        n_false=n_false,
        n_holding=n_holding,
        stopped=tuple(stopped[look] for look in range(n_looks)),
    )


def _family(values: NDArray[np.float64], margin: float, bootstrap: Bootstrap, level: Level) -> list[Estimate]:
    """The effects of an examination, a column each, with intervals that hold together."""
    effects = {str(column): values[:, column] for column in range(values.shape[1])}
    return list(adjusted(effects, margin, bootstrap, level).values())


def _misses(found: Sequence[Estimate]) -> int:
    """How many do not hold the mean, which is 0."""
    return sum(not effect.low <= 0 <= effect.high for effect in found)


def interval_coverage(seed: int, n_samples: int = SAMPLES, n_resamples: int = N_RESAMPLES) -> Coverage:
    """Coverage of the BCa intervals of a mean effect, on the per-sequence differences of a planted memory."""
    bank = bank_of_differences(seed)
    rng = np.random.default_rng([seed, len(bank)])
    samples = bank[rng.integers(0, len(bank), (n_samples, SAMPLE_SIZE))]
    intervals = Bootstrap(SAMPLE_SIZE, n_resamples, seed).means(samples)
    mean = float(bank.mean())
    return Coverage(
        level=intervals[0].level,
        n_samples=n_samples,
        sample_size=SAMPLE_SIZE,
        n_holding=sum(interval.low <= mean <= interval.high for interval in intervals),
        mean=mean,
        bank=len(bank),
    )


def bank_of_differences(seed: int, n: int = BANK) -> NDArray[np.float64]:
    """What zeros in place of a load-bearing memory's read cost each of so many sequences, in nats per answer."""
    return _bank(seed, n, lambda width: [Zero()])[:, 0]


def bank_of_effects(seed: int, n: int = BANK // 4) -> NDArray[np.float64]:
    """What zeros and random constants in its place cost each sequence: `EFFECTS` columns, all on the same sequences."""
    generator = torch.Generator().manual_seed(seed)
    return _bank(
        seed,
        n,
        lambda width: [Zero(), *(Constant(torch.randn(width, generator=generator)) for _ in range(EFFECTS - 1))],
    )


@torch.no_grad()
def _bank(seed: int, n: int, interventions: Callable[[int], list[Intervention]]) -> NDArray[np.float64]:
    """Paired differences, a column for each intervention at the read of G1."""
    world = World.draw(seed)
    model, loss = load_bearing(world), NextTokenLoss()
    modules: dict[str, nn.Module] = dict(model.named_modules())
    width = model.get_parameter("memories.0.out.weight").shape[1]
    edits = [[Edit(Point("memories.0.read"), of)] for of in interventions(width)]
    found = []
    for batch in world.batches(recall, -(-n // SEQUENCES_AT_ONCE), SEQUENCES_AT_ONCE):
        plain, changed = loss(model, batch), []
        for each in edits:
            with edited(modules, each):
                changed.append(loss(model, batch) - plain)
        found.append(torch.stack(changed, 1))
    return torch.cat(found)[:n].double().numpy()
