"""What one instrumented pass saw of a site, and every measure that can be had from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.contracts import Bank, Collapsible, Settling
from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.measures import (
    addressing_entropy,
    centred_rank,
    contraction,
    contribution_ratio,
    dead_slots,
    effective_dimension,
    effective_rank,
    first_order,
    gate_mean,
    gini,
    gradient_snr,
    max_violation,
    mean_cosine,
    mean_vector_share,
    shut_share,
    slot_mass,
    stable_rank,
    state_growth,
    state_rank_share,
)

SPECTRUM_ROWS = 1024
"""Reads whose singular values are computed, evenly spread over all."""

LOOP_SEQUENCES, LOOP_TOKENS = 4, 64
"""Sequences, and tokens from their start on, whose loops are looked at."""

LOOP_STEPS = 30


class Taken(NamedTuple):
    """States of some sequences at some places, the last of them after all tokens.

    `is_map`: the last two axes are a map from what is asked to what is read, so that their rank means something.
    """

    values: Float[Tensor, "b n *s"]
    is_map: bool


@dataclass(frozen=True, kw_only=True)
class Observed:
    """Values at the points of a site, one tensor a call; empty where there is no such point.

    Args:
        read: what was read, and `slope` the gradient of the summed losses there.
        gate, addressing, contribution: as they were announced.
        residual: the stream that each contribution was added to.
        state: after every token, of some sequences.
        taken: the same at some places, by running the model in pieces, where nothing is announced.
        owner: the module whose read it is, and `own_input` what it was called with; None where nobody knows.
    """

    read: Sequence[Tensor]
    slope: Sequence[Tensor]
    gate: Sequence[Tensor] = ()
    addressing: Sequence[Tensor] = ()
    contribution: Sequence[Tensor] = ()
    residual: Sequence[Tensor] = ()
    state: Tensor | None = None
    taken: Taken | None = None
    owner: nn.Module | None = None
    own_input: Tensor | None = field(default=None)


def measured(seen: Observed) -> dict[str, float]:
    """Measures by name (`MEASURES`); those that cannot be had, or are not finite, are left out."""
    found = _of_read(seen) | _of_gate(seen) | _of_addressing(seen) | _of_contribution(seen)
    found |= _of_slots(seen) | _of_loop(seen) | _of_state(seen)
    return {name: value for name, value in found.items() if math.isfinite(value)}


def rows(value: Tensor) -> Float[Tensor, "n d"]:
    """One row per sequence and position."""
    return value.flatten(0, 1).flatten(1) if value.ndim >= 3 else value.flatten(1)


def _of_read(seen: Observed) -> dict[str, float]:
    read = torch.cat([rows(value) for value in seen.read])
    some = read[:: -(-len(read) // SPECTRUM_ROWS)]
    return {
        "effective_dimension": effective_dimension(read),
        "centred_rank": centred_rank(some),
        "read_width": float(read.shape[-1]),
        "mean_cosine": mean_cosine(read),
        "mean_vector_share": mean_vector_share(read),
        "gradient_snr": gradient_snr(torch.cat([_by_sequence(slope) for slope in seen.slope], dim=1)),
        "attribution": sum(_attributed(*call) for call in zip(seen.read, seen.slope, strict=True)),
    }


def _by_sequence(slope: Tensor) -> Float[Tensor, "b d"]:
    """The gradient of a constant added to every read of a sequence."""
    return (in_float64(slope).sum(1) if slope.ndim >= 3 else slope).flatten(1)


def _attributed(read: Tensor, slope: Tensor) -> float:
    """What the mean in place of this call's reads would cost; of all calls together, to first order, the sum."""
    mean = in_float64(read).mean((0, 1) if read.ndim >= 3 else 0)
    return float(first_order(slope, read, mean).mean())


def _of_gate(seen: Observed) -> dict[str, float]:
    if not seen.gate:
        return {}
    gate = torch.cat([value.flatten() for value in seen.gate])
    return {"gate_mean": gate_mean(gate), "gate_below_0.01": shut_share(gate)}


def _of_addressing(seen: Observed) -> dict[str, float]:
    if not seen.addressing:
        return {}
    found = {"addressing_entropy": addressing_entropy(torch.cat([w.flatten(0, -2) for w in seen.addressing]))}
    if any(_over_positions(weights) for weights in seen.addressing):
        return found
    mass = slot_mass(torch.cat([w.flatten(0, -2) for w in seen.addressing]))
    return found | {
        "top_slot": float(mass.max()),
        "dead_slots": dead_slots(mass),
        "gini": gini(mass),
        "max_violation": max_violation(mass),
    }


def _over_positions(weights: Tensor) -> bool:
    """Whether the choices are tokens, of which later ones are never chosen, rather than slots."""
    square = weights.ndim >= 3 and weights.shape[-1] == weights.shape[-2] > 1
    return square and not bool(weights.triu(1).any())


def _of_contribution(seen: Observed) -> dict[str, float]:
    same = len(seen.contribution) == len(seen.residual) > 0
    if not same:
        return {}
    added, stream = (torch.cat([rows(value) for value in of]) for of in (seen.contribution, seen.residual))
    return {"contribution_ratio": contribution_ratio(added, stream)}


def _of_slots(seen: Observed) -> dict[str, float]:
    found: dict[str, float] = {}
    if isinstance(seen.owner, Bank) and isinstance(seen.owner.slots, Tensor) and seen.owner.slots.ndim == 2:
        slots = seen.owner.slots.detach()
        found = {
            "slot_cosine": mean_cosine(slots),
            "slot_centred_cosine": mean_cosine(slots, centred=True),
            "slot_rank": float(effective_rank(slots)),
            "slot_stable_rank": stable_rank(slots),
        }
    if isinstance(seen.owner, Collapsible) and seen.own_input is not None:
        with torch.no_grad():
            number, threshold = seen.owner.collapse_threshold(seen.own_input)
        found |= {"stability_number": float(number), "stability_threshold": float(threshold)}
    return found


def _of_loop(seen: Observed) -> dict[str, float]:
    """From zero, where the loop of a memory starts, to where it settles."""
    if not isinstance(seen.owner, Settling) or seen.own_input is None:
        return {}
    given = seen.own_input.detach()[:LOOP_SEQUENCES, :LOOP_TOKENS]
    with torch.no_grad():
        step = seen.owner.inner_map(given)
    found = contraction(step, torch.zeros_like(given), torch.Generator().manual_seed(0), LOOP_STEPS)
    return {
        "loop_certificate": seen.owner.certificate(),
        "loop_norm": float(found.norm.low),
        "loop_lyapunov": found.lyapunov,
    }


def _of_state(seen: Observed) -> dict[str, float]:
    state = seen.state if seen.state is not None or seen.taken is None else seen.taken.values
    if state is None or state.ndim < 3:
        return {}
    found = {"state_growth": state_growth(state)}
    is_map = seen.taken.is_map if seen.state is None and seen.taken else _one_matrix_a_head(state, seen.read[0])
    if is_map:
        # Sequences of a light load leave most of any state empty.
        found["state_share"] = max(state_rank_share(last) for last in state[:, -1])
    return found


def _one_matrix_a_head(state: Tensor, read: Tensor) -> bool:
    """Whether the state is (b, t, h, k, v) and what is read of it (b, t, h, ...): only then the last axes are a map."""
    return state.ndim == 5 and read.ndim == 4 and state.shape[2] == read.shape[2]
