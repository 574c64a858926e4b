"""This machine, measured: small stacks of a layout are trained and examined for a moment, and rates are fitted.

What is found is kept in the user's cache, by the mixers, the precision, the processor, the version of torch and the
number of its threads.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from pydantic import TypeAdapter, ValidationError
from scipy.optimize import nnls

from mnemoscope.examination import Budget, examine
from mnemoscope.experiments.planning.examinations import count_examination, random_batches
from mnemoscope.experiments.planning.timing import Coefficients, Peaks, fit, measure, once, peaks
from mnemoscope.experiments.planning.tracing import Traced, forward_of, step_of, trace
from mnemoscope.models import Stack, StackConfig, build
from mnemoscope.tasks.cache import cache_path, writing
from mnemoscope.training import TrainConfig

REVISION = 2
"""Of what is measured; kept measurements of another are taken again."""

REPEATS = 7


class Size(NamedTuple):
    """Of a small stack: width, sequences, tokens of each."""

    width: int
    batch: int
    tokens: int


SIZES = (
    Size(32, 4, 64),
    Size(64, 8, 128),
    Size(96, 4, 256),
    Size(128, 8, 128),
    Size(128, 4, 384),
    Size(192, 4, 256),
    Size(192, 8, 128),
    Size(224, 4, 384),
)
"""Trained for a few steps each."""

EXAMINED = (Size(32, 4, 32), Size(64, 4, 64), Size(96, 8, 128))
"""Examined each as often as `EXAMINATIONS` says; the shortest counts."""

EXAMINATIONS = 2

BUDGET = Budget(n_calibration=32, n_test=32, fit_steps=10, joint_fit_steps=5, looks=1, n_resamples=1000)
VOCAB = 256


@dataclass(frozen=True, kw_only=True)
class ExaminationRate:
    """Seconds of an examination: per site, and per second of the forward passes that it is charged.

    Args:
        per_site: seconds.
        per_pass: seconds per second; fits, sharing of batches and what is done once are in it.
        error: largest relative error on the sizes that were fitted.
    """

    per_site: float
    per_pass: float
    error: float = 0.0

    def seconds(self, n_sites: int, pass_seconds: float) -> float:
        """Of an examination."""
        return self.per_site * n_sites + self.per_pass * pass_seconds


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Rates of one layout on this machine."""

    step: Coefficients
    forward: Coefficients
    examination: ExaminationRate | None = None


_KEPT = TypeAdapter(Calibration)


def calibrated(
    stack: StackConfig, config: TrainConfig, *, examination: bool, refresh: bool, say: Callable[[str], None]
) -> Calibration:
    """The rates of a stack's mixers, from the cache or measured now.

    Args:
        stack: its mixers, each once, and feed-forward parts make the small stacks.
        config: precision and optimiser of the training.
        examination: also those of examinations.
        refresh: measure even if there are some.
        say: told what takes time.
    """
    path = cache_path("planning", f"{_key(stack, config)}.json")
    known = None if refresh else _read(path)
    if known is None:
        say("measuring this machine on small models of the layout; kept for the next time")
        known = calibrate_training(stack, config)
    if examination and known.examination is None:
        say("measuring small examinations of the layout; kept for the next time")
        known = replace(known, examination=calibrate_examination(stack, known))
    with writing(path) as file:
        file.write(_KEPT.dump_json(known))
    return known


def calibrate_training(stack: StackConfig, config: TrainConfig) -> Calibration:
    """Train small stacks for a few steps, and fit rates."""
    traces = {size: traced_at(stack, size, config) for size in SIZES}
    seconds = measure_training(stack, SIZES, config)
    return fitted(traces, seconds, peaks())


def fitted(traces: Mapping[Size, Traced], seconds: Mapping[tuple[str, Size], float], least: Peaks) -> Calibration:
    """Rates from counts and measured seconds of the same sizes, none faster than the machine's peaks."""
    return Calibration(
        step=fit([(traced.step, seconds["step", size]) for size, traced in traces.items()], least),
        forward=fit([(traced.forward, seconds["forward", size]) for size, traced in traces.items()], least),
    )


def measure_training(stack: StackConfig, sizes: Sequence[Size], config: TrainConfig) -> dict[tuple[str, Size], float]:
    """Median seconds of a step and of a forward pass at every size, taken in turns."""
    work = {}
    for size in sizes:
        model = build(at_size(stack, size), seed=0)
        work["step", size] = step_of(model, size.batch, size.tokens, config)
        work["forward", size] = forward_of(model, size.batch, size.tokens, config)
    return measure(work, REPEATS)


def calibrate_examination(stack: StackConfig, known: Calibration) -> ExaminationRate:
    """Examine small stacks, and fit rates."""
    rows = [examined_at(stack, size, known) for size in EXAMINED]
    return fit_examination(rows)


class Examined(NamedTuple):
    """An examination that was run: its sites, predicted seconds of the passes it is charged, and measured seconds."""

    n_sites: int
    pass_seconds: float
    seconds: float


def examined_at(stack: StackConfig, size: Size, known: Calibration, budget: Budget = BUDGET) -> Examined:
    """Examine a stack of random weights on random tokens."""
    small, config = at_size(stack, size), TrainConfig()
    traced = traced_at(stack, size, config)
    counted = count_examination(small, size.tokens, size.batch, budget, traced)
    n = (budget.n_calibration + budget.n_test) // size.batch
    batches, model = random_batches(VOCAB, size.batch, size.tokens, n), build(small, seed=0)
    seconds = min(once(lambda: examine(model, batches, budget=budget)) for _ in range(EXAMINATIONS))
    return Examined(counted.n_sites, counted.passes * known.forward.seconds(traced.forward), seconds)


def fit_examination(rows: Sequence[Examined]) -> ExaminationRate:
    """Rates from examinations that were run, by non-negative least squares of relative errors."""
    features = np.array([[row.n_sites, row.pass_seconds] for row in rows])
    seconds = np.array([row.seconds for row in rows])
    found, _ = nnls(features / seconds[:, None], np.ones(len(rows)))
    error = float(np.abs(features @ found / seconds - 1).max())
    return ExaminationRate(per_site=float(found[0]), per_pass=float(found[1]), error=error)


def traced_at(stack: StackConfig, size: Size, config: TrainConfig) -> Traced:
    """Counts of a small stack."""
    small = at_size(stack, size)
    return trace(lambda: Stack(small), size.batch, size.tokens, config)


def at_size(stack: StackConfig, size: Size) -> StackConfig:
    """Every mixer of a stack once, at a small size."""
    mixers = tuple(dict.fromkeys(stack.mixers))
    longest = None if stack.max_tokens is None else size.tokens
    tied = stack.vectors is None and stack.tie_embeddings
    return replace(
        stack,
        mixers=mixers,
        d_model=size.width,
        vocab_size=VOCAB,
        max_tokens=longest,
        vectors=None,
        tie_embeddings=tied,
    )


def _key(stack: StackConfig, config: TrainConfig) -> str:
    """What rates depend on."""
    small = at_size(stack, SIZES[0])
    words = (REVISION, small, config.precision, config.optimiser, platform.processor(), platform.machine(), _cpu())
    return hashlib.sha256(repr((*words, torch.__version__, torch.get_num_threads())).encode()).hexdigest()[:24]


def _cpu() -> str:
    return torch.backends.cpu.get_cpu_capability()


def _read(path: Path) -> Calibration | None:
    try:
        return _KEPT.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
