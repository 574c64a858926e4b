"""What the metrics of training cost: an observed step beside a plain one, and their share of a whole training."""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.utils import clip_grad_norm_

from benchmarks.timing import Spread, print_table, time_interleaved
from mnemoscope.models import StackConfig, build
from mnemoscope.training.config import TrainConfig
from mnemoscope.training.loss import cross_entropy
from mnemoscope.training.metrics import METRIC_NAMES, Metrics, MetricsConfig
from mnemoscope.training.optimiser import build_optimiser

WIDTH, VOCABULARY, SEQUENCES, TOKENS = 64, 64, 64, 32
LAYOUTS = (
    "attention(window=16), gated_delta",
    "gated_delta | attention(window=16), gated_delta | attention(window=16)",
    "attention(window=16), ntm",
)
"""Two layers each: memory and attention in turn, side by side under a gate, and a memory that loops over tokens."""

EVERY = MetricsConfig().every
REPEATS = 15
SHARE_BAR = 0.05
"""All metrics, every `EVERY` steps, must take less than this share of the time of training without them."""

timed = partial(time_interleaved, repeats=REPEATS, clock=time.process_time)
"""Processor time: all of this is work of one thread."""


def training_step(layout: str, names: tuple[str, ...] | None) -> Callable[[], None]:
    """A step as the training loop takes it; with the metrics of some names, or None for a loop that has none.

    Without names it is the step of a loop that has metrics and is not due.
    """
    model = build(StackConfig.of(layout, vocab_size=VOCABULARY, d_model=WIDTH), seed=0)
    optimiser = build_optimiser(model, TrainConfig())
    metrics = Metrics(model, MetricsConfig(every=1 if names else 2, names=names or METRIC_NAMES))
    tokens = torch.randint(VOCABULARY, (SEQUENCES, TOKENS + 1), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    def plain() -> None:
        loss = cross_entropy(model(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()

    def observed() -> None:
        with metrics.observing(1):
            logits = model(inputs)
        loss = cross_entropy(logits, targets)
        optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        metrics.before_projection()
        metrics.after_projection()
        optimiser.step()
        metrics.figures(logits, targets)

    return plain if names is None else observed


def layout_rows(layout: str) -> list[tuple[str, ...]]:
    """All metrics, each for itself, and a step that is not due, interleaved with a plain step."""
    work = {"plain": training_step(layout, None), "not due": training_step(layout, ())}
    work["all"] = training_step(layout, METRIC_NAMES)
    seconds = timed(work | {name: training_step(layout, (name,)) for name in METRIC_NAMES if name != "grokking_phase"})
    plain = seconds.pop("plain")
    rows = [(layout, "no metrics", f"{1e3 * Spread.of(plain).median:.1f} ms", "1.00", "")]
    for name, taken in seconds.items():
        extra = Spread.of((taken - plain) / plain)
        share = extra.median / (1 if name == "not due" else EVERY)
        verdict = "" if name != "all" else " reached" if share < SHARE_BAR else " MISSED"
        step = f"{1e3 * Spread.of(taken).median:.1f} ms"
        ratio = f"{1 + extra.median:.2f} ({1 + extra.low:.2f} to {1 + extra.high:.2f})"
        rows.append(("", name, step, ratio, f"{share:+.2%}{verdict}"))
    return rows


def run() -> None:
    """Print every layout."""
    print(
        f"A step: forward, backward, clipping and AdamW on {SEQUENCES} x {TOKENS} tokens, d_model {WIDTH}.\n"
        f"Bar: all metrics every {EVERY} steps below {SHARE_BAR:.0%} of training. Spreads: 10-90 % of paired ratios.\n"
        "Times are processor time, of one thread.\n"
    )
    header = ("layout", "metrics", "step", "observed / plain", "share of training")
    print_table(header, [row for layout in LAYOUTS for row in layout_rows(layout)])
