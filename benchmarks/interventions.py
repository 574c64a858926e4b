"""Four fixed interventions at the four memories of an eight-layer stack: replayed, against a full forward for each."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import Spread, bootstrap_ratio, max_difference, print_table, time_interleaved
from mnemoscope.contracts import Batch
from mnemoscope.examination import NextTokenLoss, Point
from mnemoscope.examination.protocol.conditions import fixed_edits, profile
from mnemoscope.examination.protocol.fit import Removal, fit_removals
from mnemoscope.examination.running.editing import Edit, edited
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.models import Stack, StackConfig, build

LAYOUT = "(attention(window=16), gated_delta) * 4"
SHAPE = (16, 256)
WIDTH = 128
REPEATS = 7
FIT_STEPS = 20


def batch(seed: int) -> Batch:
    tokens = np.random.default_rng(seed).integers(0, 256, (SHAPE[0], SHAPE[1] + 1))
    return Batch(inputs=torch.from_numpy(tokens[:, :-1]), targets=torch.from_numpy(tokens[:, 1:]))


def conditions(tapes: list[Tape], points: list[Point]) -> list[list[Edit]]:
    """Zero, mean, resample and a given constant, at each site."""
    generator = torch.Generator().manual_seed(0)
    return [edits for point in points for edits in fixed_edits(profile(tapes, point), point, generator).values()]


@torch.no_grad()
def replayed(replayer: Replayer, data: Batch, wanted: list[list[Edit]]) -> list[Tensor]:
    """The clean pass and every condition, each from where its intervention begins."""
    tape = replayer.record(data)
    return [tape.scores.per_sequence] + [replayer.run(tape, edits).per_sequence for edits in wanted]


@torch.no_grad()
def naive(model: Stack, data: Batch, wanted: list[list[Edit]]) -> list[Tensor]:
    """The clean pass and every condition, each from the first layer."""
    loss, modules = NextTokenLoss(), dict(model.named_modules())
    results = [loss(model, data)]
    for edits in wanted:
        with edited(modules, edits):
            results.append(loss(model, data))
    return results


def run() -> None:
    """Print the ratio, and the fit of an optimal constant apart."""
    model = build(StackConfig.of(LAYOUT, vocab_size=256, d_model=WIDTH), seed=0).eval()
    points = [Point(f"blocks.{i}.mixer.read") for i in (1, 3, 5, 7)]
    replayer, data = Replayer(model, NextTokenLoss(), points), batch(0)
    tapes = [replayer.record(batch(seed), keep=points) for seed in (1, 2)]
    wanted = conditions(tapes, points)
    difference = max_difference(replayed(replayer, data, wanted), naive(model, data, wanted))
    work = {"replayed": partial(replayed, replayer, data, wanted), "naive": partial(naive, model, data, wanted)}
    seconds = time_interleaved(work, REPEATS)
    low, high = bootstrap_ratio(seconds["replayed"], seconds["naive"])
    at = profile([replayer.record(batch(1), keep=points)], points[1])
    removal = Removal(point=points[1], window=None, start=at.mean, scale=at.rms)
    fit = time_interleaved({"fit": lambda: fit_removals(replayer, tapes, [removal], FIT_STEPS)}, 3, warm_up=0)["fit"]
    header = ("work", "max difference", "replayed", "naive", "replayed / naive (10-90 %)", "95 % interval", "path")
    row = (
        f"{len(wanted)} interventions, {SHAPE[0]} x {SHAPE[1]} tokens",
        f"{difference:.1e}",
        f"{Spread.of(seconds['replayed']).median:.2f} s",
        f"{Spread.of(seconds['naive']).median:.2f} s",
        str(Spread.of(seconds["replayed"] / seconds["naive"])),
        f"[{low:.2f}, {high:.2f}]",
        replayer.path,
    )
    print_table(header, [row])
    print(f"optimal constant at block 3: {1e3 * float(np.median(fit)) / FIT_STEPS:.0f} ms a step, timed apart")
