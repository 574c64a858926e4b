"""A trained bank changed: slots deleted, addresses cut, another run's gate, the best constant in its place; and losses.

Losses are nats a token (a byte), one for each window, so that what two models lose is compared window by window.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.examination import Budget
from mnemoscope.examination.subject.losses import NextTokenLoss
from mnemoscope.experiments.folding import equivalence, fitted, folded_stack
from mnemoscope.experiments.held_out import Data
from mnemoscope.experiments.parallax.watched import bank_of
from mnemoscope.experiments.subjects import of_run
from mnemoscope.memories import EnergyBank
from mnemoscope.models import Stack, beside_of
from mnemoscope.runs.examination import Estimate

CHUNK = 16
"""Windows that are evaluated at once."""

Windows = tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]


@torch.no_grad()
def losses(model: nn.Module, windows: Windows) -> Float[Tensor, "b"]:
    """Of every window, its mean over tokens."""
    found = list[Tensor]()
    for x, y in zip(*(part.split(CHUNK) for part in windows), strict=True):
        found.append(F.cross_entropy(model(x).transpose(1, 2), y, reduction="none").mean(1))
    return torch.cat(found).double()


def without_slots(model: Stack, share: float, generator: torch.Generator) -> Stack:
    """A copy whose bank has lost a share of its slots, drawn at random; at least one is left."""
    changed = copy.deepcopy(model)
    bank = _required(changed)
    kept = max(1, round((1 - share) * len(bank.slots)))
    chosen = torch.randperm(len(bank.slots), generator=generator)[:kept].sort().values
    bank.slots = nn.Parameter(bank.slots.detach()[chosen], requires_grad=False)
    return changed


@contextmanager
def best_slots(model: Stack, k: int | None) -> Iterator[None]:
    """While it is entered, reads use the k best slots alone, as `NegativeControlTopKAddressing` trains them."""
    if k is None:
        yield
        return

    def strongest(_module: nn.Module, _arguments: object, weights: Tensor) -> Tensor:
        kept = torch.zeros_like(weights).scatter(-1, weights.topk(k, dim=-1).indices, 1.0) * weights
        return kept / kept.sum(-1, keepdim=True)

    handle = _required(model).addressing.register_forward_hook(strongest)
    try:
        yield
    finally:
        handle.remove()


def with_gate_of(model: Stack, other: Stack) -> Stack:
    """A copy with the fusion gate of another model of its shape."""
    changed = copy.deepcopy(model)
    _required(changed).fusion.load_state_dict(_required(other).fusion.state_dict())
    return changed


def folded_difference(run: Path, budget: Budget) -> Estimate:
    """What a trained cortex loses where the read of its bank is the best constant, behind the gate that it has.

    The constant is fitted on the validation split, and the loss measured on the test split, window by window.
    """
    subject = of_run(run, Data(batch=CHUNK), budget)
    model = subject.model
    assert isinstance(model, Stack)
    assert subject.sizes is not None
    n_calibration = -(-subject.sizes[0] // subject.batches[0].size)
    calibration, test = subject.batches[:n_calibration], subject.batches[n_calibration:]
    loss = subject.loss or NextTokenLoss()
    fit = fitted(model, loss, calibration, beside_of(model), "read", budget)
    return equivalence(model, folded_stack(model, fit), loss, test, n_resamples=budget.n_resamples, seed=budget.seed)


def _required(model: Stack) -> EnergyBank:
    bank = bank_of(model)
    if bank is None:
        raise ValueError(f"bank: the last block must hold one, got {type(model.blocks[-1].mixer).__name__}")
    return bank
