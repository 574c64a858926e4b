"""The optimal constant: what a site is worth beyond one learned vector.

    min over c of E[loss(do(value = c))]

Zero, mean and resampled values are off-distribution and overstate importance; the best constant is the most the rest
of the network can do without the information in the value. Fitted on calibration sequences, chosen on some of them
held out from the fit, reported on the test sequences.

Source: Li & Janson 2024, "Optimal ablation for interpretability" (arXiv 2409.09951), definition 2.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.interventions.reads import Constant, Intervention, PositionConstant, Window
from mnemoscope.examination.running.editing import Edit
from mnemoscope.examination.running.replay import Replayer
from mnemoscope.examination.running.tape import Tape
from mnemoscope.examination.subject.sites import Point

CHECK_EVERY = 20
PATIENCE = 4
RELATIVE_RATES = (0.05, 0.015)
"""Of steps: constants far from the start need the first, narrow valleys the second."""
TUNING_EVERY = 3


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What takes the place of a part: a constant, one for each position, or the last tokens of history and a constant.

    Args:
        point: where it is put.
        window: tokens of history that stay; None for none.
        start: first guess of the constant, and the value kept if nothing better is found.
        scale: root mean square of what is replaced; sets the size of the steps.
        by_position: the constant has a leading axis of positions.
    """

    point: Point
    window: int | None
    start: Shaped[Tensor, "..."]
    scale: float
    by_position: bool = False

    def intervention(self, constant: Tensor) -> Intervention:
        """The removal with this constant."""
        if self.by_position:
            return PositionConstant(constant)
        return Constant(constant) if self.window is None else Window(self.window, constant)

    def at(self, constant: Tensor) -> "Removal":
        """The same removal, starting elsewhere."""
        return replace(self, start=constant)


def fit_removals(
    replayer: Replayer,
    tapes: Sequence[Tape],
    removals: Sequence[Removal],
    max_steps: int,
    until: float = torch.inf,
) -> list[Float[Tensor, "..."]]:
    """Jointly optimal constants of several removals.

    Adam at 5 % and at 1.5 % of each value's root mean square, a third of the steps each, and the rest at the rate that
    came further, on from where it was; each falls linearly to a tenth. Every twentieth step the choice sequences (each
    third tape) decide whether this is the best so far: better by more than a standard error of the paired difference,
    since the best of many by luck is worse than the start on other sequences.

    Args:
        replayer: of the model.
        tapes: calibration sequences, at least two tapes.
        removals: what to remove together.
        max_steps: Adam steps at most.
        until: stop when `time.perf_counter` says so, with the best so far.

    Returns:
        One constant per removal; the starts, where the loss does not depend on them differentiably.
    """
    # Half precision underflows in the squared gradients; interventions cast back.
    starts = [_at_least_float32(removal.start) for removal in removals]
    if time.perf_counter() > until:
        return starts
    search = _Search(replayer, tapes, removals, until)
    at_start = search.judged(starts)
    n_first = -(-max_steps // 3)
    tried = [search.descend(at_start, rate, n_first) for rate in RELATIVE_RATES]
    rate, further = min(zip(RELATIVE_RATES, tried, strict=True), key=lambda found: float(found[1].losses.mean()))
    last = search.descend(further, rate, max_steps - n_first)
    best = at_start
    for found in (*tried, last):
        best = found if _is_better(found.losses, best.losses) else best
    return best.constants


class _Judged(NamedTuple):
    """Constants and the losses of the choice sequences under them."""

    constants: list[Tensor]
    losses: Float[Tensor, "n"]


class _Search:
    """Descents from constants to better ones."""

    def __init__(self, replayer: Replayer, tapes: Sequence[Tape], removals: Sequence[Removal], until: float) -> None:
        self.replayer, self.removals, self.until = replayer, removals, until
        self.chosen_on = tuning(tapes)
        self.fitted_on = [tape for i, tape in enumerate(tapes) if i % TUNING_EVERY]

    def judged(self, constants: list[Tensor]) -> _Judged:
        """The constants as they are now, on the choice sequences."""
        now = [constant.detach().clone() for constant in constants]
        return _Judged(now, _losses(self.replayer, self.chosen_on, self.removals, now))

    def descend(self, start: _Judged, rate: float, max_steps: int) -> _Judged:
        """The best that was met on the way down from the start; the start, where there is no way."""
        constants = [constant.clone().requires_grad_() for constant in start.constants]
        groups = [
            {"params": [constant], "lr": rate * max(removal.scale, 1e-8)}
            for constant, removal in zip(constants, self.removals, strict=True)
        ]
        optimiser = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.1, total_iters=max(1, max_steps))
        best, lowest, stale = start, float(start.losses.mean()), 0
        with frozen(self.replayer.model), torch.enable_grad():
            for step in range(1, max_steps + 1):
                tape = self.fitted_on[step % len(self.fitted_on)]
                loss = self.replayer.run(tape, _edits(self.removals, constants)).per_sequence.mean()
                if not loss.requires_grad:
                    break
                gradients = torch.autograd.grad(loss, constants, allow_unused=True)
                for constant, gradient in zip(constants, gradients, strict=True):
                    constant.grad = gradient
                optimiser.step()
                schedule.step()
                if step % CHECK_EVERY == 0 or step == max_steps:
                    now = self.judged(constants)
                    stale = 0 if now.losses.mean() < lowest - 1e-4 else stale + 1
                    lowest = min(lowest, float(now.losses.mean()))
                    if _is_better(now.losses, best.losses):
                        best = now
                    if stale >= PATIENCE or time.perf_counter() > self.until:
                        break
        return best


def tuning(tapes: Sequence[Tape]) -> list[Tape]:
    """The calibration tapes that choose and never fit."""
    return list(tapes[::TUNING_EVERY])


def _at_least_float32(constant: Tensor) -> Tensor:
    return constant.detach().clone().to(torch.promote_types(constant.dtype, torch.float32))


def _edits(removals: Sequence[Removal], constants: Sequence[Tensor]) -> list[Edit]:
    return [
        Edit(removal.point, removal.intervention(constant))
        for removal, constant in zip(removals, constants, strict=True)
    ]


def mean_loss(
    replayer: Replayer, tapes: Sequence[Tape], removals: Sequence[Removal], constants: Sequence[Tensor]
) -> float:
    """Mean loss over all sequences of the tapes under removals with these constants."""
    return float(_losses(replayer, tapes, removals, constants).mean())


@torch.no_grad()
def _losses(
    replayer: Replayer, tapes: Sequence[Tape], removals: Sequence[Removal], constants: Sequence[Tensor]
) -> Float[Tensor, "n"]:
    """Loss of every sequence of the tapes."""
    return in_float64(torch.cat([replayer.run(tape, _edits(removals, constants)).per_sequence for tape in tapes]))


def _is_better(losses: Float[Tensor, "n"], than: Float[Tensor, "n"]) -> bool:
    """By more than a standard error of the paired difference; anything finite is better than what is not."""
    if not bool(torch.isfinite(than).all()):
        return bool(torch.isfinite(losses).all())
    gain = than - losses
    return bool(gain.mean() > gain.std() / len(gain) ** 0.5)


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """No gradients for the model's parameters while the block runs."""
    trainable = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and parameter.requires_grad
    ]
    for _, _, parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, name, before in trainable:
            # Offloaded weights are other objects after every forward.
            for parameter in (before, module._parameters.get(name)):
                if parameter is not None:
                    parameter.requires_grad_(True)
