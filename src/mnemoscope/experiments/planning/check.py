"""Is the prediction for this machine true? Sizes that no rate was fitted to, predicted, then measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from mnemoscope.contracts.protocols import announced_role
from mnemoscope.experiments.planning.calibration import (
    EXAMINED,
    SIZES,
    VOCAB,
    Size,
    at_size,
    examined_at,
    fit_examination,
    fitted,
    measure_training,
    traced_at,
)
from mnemoscope.experiments.planning.timing import peaks
from mnemoscope.experiments.planning.tracing import Traced, step_of
from mnemoscope.models import StackConfig, build
from mnemoscope.training import TrainConfig
from mnemoscope.training.threads import cpu_threads

LAYOUTS = ("attention", "linear_attention", "mamba2", "gated_delta", "attention(window=16), gated_delta")

HELD_OUT = (Size(96, 8, 384), Size(160, 8, 256), Size(192, 4, 512), Size(256, 4, 256))
"""Trained; all cost more than most that rates were fitted to."""

EXAMINED_HELD_OUT = (Size(96, 4, 128), Size(128, 8, 128))
"""Examined."""

BAR = 0.25


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One prediction and what was measured.

    Args:
        layout: of the stack.
        size: width, batch, context.
        what: "step", "forward" or "examination" in seconds, "memory" in bytes.
        predicted: from counts and rates.
        measured: median of several, for an examination of one.
    """

    layout: str
    size: Size
    what: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """Of the prediction, relative."""
        return self.predicted / self.measured - 1


def check(layouts: Sequence[str] = LAYOUTS, say: Callable[[str], None] = lambda line: None) -> Iterator[Checked]:
    """Predict and measure, on one thread, layout after layout.

    Sizes that are fitted and sizes that are held out are measured in turns, so that both meet the same machine.
    """
    for layout in layouts:
        say(f"{layout}: training {len(SIZES)} sizes that rates are fitted to and {len(HELD_OUT)} that are held out")
        with cpu_threads(1):
            yield from _check(layout)


def summary(rows: Sequence[Checked]) -> str:
    """Median and largest error of every quantity."""
    lines = []
    for what in dict.fromkeys(row.what for row in rows):
        errors = np.array([abs(row.error) for row in rows if row.what == what])
        met = "under" if errors.max() < BAR else "NOT under"
        lines.append(
            f"{what}: {len(errors)} held out, median error {np.median(errors):.0%}, largest {errors.max():.0%}; "
            f"{met} the bar of {BAR:.0%}"
        )
    return "\n".join(lines)


def step_peak_bytes(work: Callable[[], None]) -> int:
    """Most that torch's CPU allocator held at once in a run, beyond what it held before; by torch's profiler."""
    work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    held = most = 0
    for event in profiled.profiler.kineto_results.events():  # pyright: ignore[reportOptionalMemberAccess]
        if event.name() == "[memory]":
            held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            most = max(most, held)
    return most


def _check(layout: str) -> Iterator[Checked]:
    config = TrainConfig()
    stack = StackConfig.of(layout, vocab_size=VOCAB, d_model=HELD_OUT[0].width)
    traces = {size: traced_at(stack, size, config) for size in (*SIZES, *HELD_OUT)}
    least = peaks()
    seconds = measure_training(stack, (*SIZES, *HELD_OUT), config)
    known = fitted({size: traces[size] for size in SIZES}, seconds, least)
    for size in HELD_OUT:
        traced = traces[size]
        for what, rates, work in (("step", known.step, traced.step), ("forward", known.forward, traced.forward)):
            yield Checked(
                layout=layout, size=size, what=what, predicted=rates.seconds(work), measured=seconds[what, size]
            )
    yield _memory(layout, stack, HELD_OUT[0], traces[HELD_OUT[0]], config)
    if not has_memory(build(at_size(stack, SIZES[0]), seed=0)):
        return
    rates = fit_examination([examined_at(stack, size, known) for size in EXAMINED])
    for size in EXAMINED_HELD_OUT:
        row = examined_at(stack, size, known)
        predicted = rates.seconds(row.n_sites, row.pass_seconds)
        yield Checked(layout=layout, size=size, what="examination", predicted=predicted, measured=row.seconds)


def _memory(layout: str, stack: StackConfig, size: Size, traced: Traced, config: TrainConfig) -> Checked:
    model = build(at_size(stack, size), seed=0)
    resident = traced.weight_bytes + traced.optimiser_bytes
    measured = step_peak_bytes(step_of(model, size.batch, size.tokens, config))
    return Checked(
        layout=layout, size=size, what="memory", predicted=traced.peak_bytes - resident, measured=float(measured)
    )


def has_memory(model: nn.Module) -> bool:
    """Whether a module announces a memory, so that there is something to examine."""
    return any(announced_role(module) == "memory" for module in model.modules())


def machine() -> str:
    """What was measured on, in words."""
    return f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread, CPU seconds"
