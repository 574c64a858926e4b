"""Whether intervals hold what they say: many samples from one bank of differences whose mean is known."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mnemoscope.examination.interventions.reads import Zero
from mnemoscope.examination.judgement.statistics import Bootstrap
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.examination.subject.sites import Point
from mnemoscope.experiments.planted.models import load_bearing
from mnemoscope.experiments.planted.world import World, recall

BANK = 200_000
SEQUENCES_AT_ONCE = 2_000
SAMPLES = 2_000
SAMPLE_SIZE = 1_024
N_RESAMPLES = 10_000


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


@torch.no_grad()
def bank_of_differences(seed: int, n: int = BANK) -> NDArray[np.float64]:
    """What zeros in place of a load-bearing memory's read cost each of so many sequences, in nats per answer."""
    world = World.draw(seed)
    model, loss = load_bearing(world), NextTokenLoss()
    modules: dict[str, nn.Module] = dict(model.named_modules())
    off = [Edit(Point("memories.0.read"), Zero())]
    found = []
    for batch in world.batches(recall, -(-n // SEQUENCES_AT_ONCE), SEQUENCES_AT_ONCE):
        plain = loss(model, batch)
        with edited(modules, off):
            found.append(loss(model, batch) - plain)
    return torch.cat(found)[:n].double().numpy()
