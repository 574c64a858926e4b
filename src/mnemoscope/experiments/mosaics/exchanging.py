"""What a memory holds, asked by exchange: a unit reads with its own queries what it stored of another sequence.

    donor       the sky it comes from                             harmless to a memory that holds
    later       the same system, seen at another time             what is true of the system
    orbits      another system, its bodies in the same places     who stands where
    order       the same system, its bodies in other places       orbits, wherever they were seen

A memory of the sky as it is seen is harmed by the last two alike. One that only routes, by what it has found out about
who stands where, does not mind whose orbits those were; one behind the routing does not mind the order.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mnemoscope.contracts import Batch
from mnemoscope.examination.subject.losses import input_device
from mnemoscope.memories.contextual import Contextual
from mnemoscope.tasks.planetary import Planetary, Systems

Donor = Literal["later", "orbits", "order"]
DONORS: tuple[Donor, ...] = get_args(Donor)
LATER = 1000.0
"""Samples between a system and the same one later."""


def donors(systems: Systems) -> Mapping[Donor, Systems]:
    """For every system one of each kind; there must be two systems or more, and two bodies."""
    return {
        "later": systems.later(LATER),
        "orbits": replace(systems, periods=np.roll(systems.periods, 1, 0), phases=np.roll(systems.phases, 1, 0)),
        "order": replace(systems, order=np.roll(systems.order, 1, 1)),
    }


@contextmanager
def exchanged(memory: Contextual, givers: Int[Tensor, "b"]) -> Iterator[None]:
    """For the block, row i of a batch reads what row `givers[i]` stored; its queries and all else are its own."""

    def exchange(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        q, k, v = given
        return q, k[givers], v[givers]

    handle = memory.smoothing.register_forward_pre_hook(exchange)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def squared_errors(model: nn.Module, batch: Batch) -> Float[Tensor, "b t"]:
    """Mean squared error of the predictions at every position."""
    device = input_device(model)
    seen, targets = (torch.as_tensor(part).to(device) for part in (batch.inputs, batch.targets))
    return (model(seen) - targets).square().mean(-1).cpu()


def harms(
    model: nn.Module, layers: Sequence[Contextual], task: Planetary, systems: Systems
) -> Mapping[Donor, Float[np.ndarray, "layers t"]]:
    """How much the squared error rises at every position where one layer reads what it stored of another sky.

    Args:
        model: in evaluation mode.
        layers: memories of the model, each exchanged by itself, all its heads together.
        task: that observes the systems.
        systems: of the test.
    """
    n, own = len(systems.periods), task.observed(systems)
    intact = squared_errors(model, own).mean(0)
    givers = torch.arange(2 * n).roll(n)
    found = dict[Donor, Float[np.ndarray, "layers t"]]()
    for donor, others in donors(systems).items():
        rows = list[Tensor]()
        for memory in layers:
            with exchanged(memory, givers):
                rows.append(squared_errors(model, _both(own, task.observed(others)))[:n].mean(0) - intact)
        found[donor] = torch.stack(rows).double().numpy()
    return found


def _both(first: Batch, second: Batch) -> Batch:
    return Batch(
        inputs=np.concatenate([first.inputs, second.inputs]), targets=np.concatenate([first.targets, second.targets])
    )
