"""Slots that give up what they take: a linear recurrence with a retention per slot.

    S_i <- (1 - w_i) S_i + w_i v

Written token by token, or a chunk at a time. Half precision is computed in float32; w is kept below 1 - 1e-6, where the
logarithm of what is retained is finite.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.contracts.precision import wide
from mnemoscope.ops.leaky import leaky_average_flops, leaky_average_gated
from mnemoscope.ops.precision import exact

MAX_WRITTEN = 1 - 1e-6
"""Largest share of a slot that one token writes."""


@exact
def slot_step(
    state: Float[Tensor, "b m v"], v: Float[Tensor, "b v"], write_strength: Float[Tensor, "b m"]
) -> Float[Tensor, "b m v"]:
    """The slots after one more token."""
    w = _share(write_strength).unsqueeze(-1)
    return (1 - w) * state + w * v.unsqueeze(1)


@exact
def slot_states_recurrent(
    v: Float[Tensor, "b t v"], write_strength: Float[Tensor, "b t m"], state: Float[Tensor, "b m v"]
) -> Float[Tensor, "b t m v"]:
    """The slots after every token, one at a time: the slow twin."""
    states = []
    for v_t, w_t in zip(v.unbind(1), write_strength.unbind(1), strict=True):
        state = slot_step(state, v_t, w_t)
        states.append(state)
    return torch.stack(states, dim=1)


@exact
def slot_states(
    v: Float[Tensor, "b t v"], write_strength: Float[Tensor, "b t m"], state: Float[Tensor, "b m v"]
) -> Float[Tensor, "b t m v"]:
    """The slots after every token, in matrix form; equals `slot_states_recurrent`.

    Cost: as `leaky_average_gated`, with the slots as heads.
    """
    w = _share(write_strength)
    states, _ = leaky_average_gated(w.unsqueeze(-1) * v.unsqueeze(2), torch.log1p(-w), state)
    return states.to(v.dtype)


@exact
def slot_states_windowed(
    v: Float[Tensor, "b t v"], write_strength: Float[Tensor, "b t m"], state: Float[Tensor, "b m v"], window: int
) -> Float[Tensor, "b t m v"]:
    """The slots after every token if only the last `window` had written on `state`, exactly, by subtraction.

    What the last tokens left of the slots before them is the product of their retentions, whose logarithms are summed
    in float64 since a difference of long sums loses digits.

    Cost: one pass and one cumulative sum.
    """
    states = slot_states(v, write_strength, state)
    if window >= v.shape[1]:
        return states
    decay = torch.log1p(-wide(_share(write_strength))).cumsum(1)
    left = (decay[:, window:] - decay[:, :-window]).exp().to(states.dtype).unsqueeze(-1)
    return torch.cat([states[:, :window], states[:, window:] - left * (states[:, :-window] - state.unsqueeze(1))], 1)


@exact
def slot_chunk_ends(
    v: Float[Tensor, "b n c v"], write_strength: Float[Tensor, "b n c m"], state: Float[Tensor, "b m v"]
) -> Float[Tensor, "b n m v"]:
    """The slots after every chunk; equals every c-th of `slot_states`, which are not formed.

    Cost: O(n c m v) multiply-adds, and `leaky_average_gated` over the chunks.
    """
    w = _share(write_strength)
    log_retention = torch.log1p(-w)
    # What the later tokens of the chunk retain, summed from the end so that no sum is subtracted from another.
    later = F.pad(log_retention[:, :, 1:], (0, 0, 0, 1)).flip(2).cumsum(2).flip(2)
    written = torch.einsum("bncm,bncv->bnmv", w * later.exp(), v.to(w.dtype))
    ends, _ = leaky_average_gated(written, log_retention.sum(2), state)
    return ends.to(v.dtype)


def slot_states_flops(batch: int, tokens: int, slots: int, width: int) -> int:
    """Of `slot_states`; a multiply-add counts as two."""
    return leaky_average_flops(batch, tokens, slots * width)


def slot_chunk_ends_flops(batch: int, chunks: int, chunk_tokens: int, slots: int, width: int) -> int:
    """Of `slot_chunk_ends`; a multiply-add counts as two."""
    return 2 * batch * chunks * chunk_tokens * slots * width + leaky_average_flops(batch, chunks, slots * width)


def _share(write_strength: Tensor) -> Tensor:
    compute = torch.float64 if write_strength.dtype == torch.float64 else torch.float32
    return write_strength.to(compute).clamp(max=MAX_WRITTEN)
