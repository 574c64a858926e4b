"""Effective state size: how much of the past an operator carries into the future (D11).

Definition: a causal map that is linear in its values, y = T v, hands everything that outputs from token i on know of
the tokens before i through the block T[i:, :i]. Its rank is the smallest state that could do the same; counted by
tolerance (singular values above a share of the largest of T) or smoothly by entropy, exp(H(s / sum s)). For one head
of a linear mixer T = L * (C B^T), with L the decays from token to token.

What it says: how much of its state a memory uses. How to read it: as a share of the largest that the state allows,
min(K, V) of a head; 0.8 or more with falling accuracy speaks for a full state. A Gaussian square matrix has an
effective rank of about 0.8 of its largest, so 1 is not to be expected, and 0.8 alone says little. Traps: use is not
necessity; near the ends of a sequence the block is small, so the middle counts; the delta rule needs its true operator,
which `probed_operator` finds, since keys erase one another; an operator of all channels (t, out, t, in) is bounded by K
V, not by K. Cost: singular values of a t/2 x t/2 matrix for every head and position looked at, so t up to about 1,000;
probing costs t * channels forwards of the map.

Source: Parnichkun et al. 2025 (arXiv 2504.19561), ranks of T[i:, :i-1]. Differs: the tolerance is relative.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.contracts.precision import in_float64
from mnemoscope.examination.measures.slot_geometry import effective_rank, entropy_rank

N_POSITIONS = 16
"""Splits of the sequence that are looked at, unless told otherwise."""

PROBES_AT_ONCE = 256
LINEARITY = 1e-4

Map = Callable[[Float[Tensor, "n t v"]], Float[Tensor, "n t out"]]


def mixer_operator(
    read: Float[Tensor, "*b t k"], write: Float[Tensor, "*b t k"], log_decay: Float[Tensor, "*b t"] | None = None
) -> Float[Tensor, "*b t t2"]:
    """L * (C B^T) of a linear mixer, one matrix a head.

    Args:
        read: C, a query for every token.
        write: B, a key for every token, with its write strength.
        log_decay: logarithm of what a token leaves of the state before it; None for all of it.
    """
    n_tokens = read.shape[-2]
    causal = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=read.device).tril()
    kept = torch.zeros_like(read[..., 0]) if log_decay is None else log_decay.cumsum(-1)
    decay = (kept.unsqueeze(-1) - kept.unsqueeze(-2)).masked_fill(~causal, -torch.inf).exp()
    return decay * (read @ write.mT)


@torch.no_grad()
def probed_operator(mix: Map, n_tokens: int, n_channels: int, like: Tensor) -> Float[Tensor, "t out t in"]:
    """The operator of any map that is linear in its values, from what it makes of one-hot values.

    Args:
        mix: values of n sequences to outputs; everything else (keys, queries, gates) stays fixed inside it.
        n_tokens: t.
        n_channels: channels of a value.
        like: a tensor of the device and type that the map takes.

    Raises:
        ValueError: for a map that is not linear, so that no operator describes it.
    """
    n = n_tokens * n_channels
    _require_linear(mix, like.new_empty(2, n_tokens, n_channels))
    rows = []
    for index in torch.arange(n, device=like.device).split(PROBES_AT_ONCE):
        one_hot = torch.zeros(len(index), n, dtype=like.dtype, device=like.device)
        one_hot[torch.arange(len(index), device=like.device), index] = 1
        rows.append(mix(one_hot.view(-1, n_tokens, n_channels)))
    found = torch.cat(rows)
    return found.view(n_tokens, n_channels, *found.shape[1:]).permute(2, 3, 0, 1)


def _require_linear(mix: Map, like: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(like.shape, generator=generator).to(like).unbind(0)
    third = 2 * first - 3 * second
    outputs = in_float64(mix(torch.stack([first, second, third])))
    expected = 2 * outputs[0] - 3 * outputs[1]
    error = float((outputs[2] - expected).norm() / expected.norm().clamp_min(1e-30))
    if not error <= LINEARITY:
        raise ValueError(
            f"probed_operator: mix must be linear in its values, mix(2a - 3b) = 2 mix(a) - 3 mix(b), got a relative "
            f"error of {error:.2g}; fix keys, queries, gates and norms at their values outside the map"
        )


def state_sizes(
    operator: Float[Tensor, "*b t t2"], tolerance: float | None = None, n_positions: int = N_POSITIONS
) -> Float[Tensor, "*b n"]:
    """Effective state size before some tokens i, evenly spread over 1 ... t - 1.

    Args:
        operator: one matrix for each head or channel.
        tolerance: count singular values above this share of the operator's largest; None for the smooth count.
        n_positions: how many i.
    """
    return torch.stack([_size(operator[..., i:, :i], operator, tolerance) for i in _splits(operator, n_positions)], -1)


def block_state_sizes(
    operator: Float[Tensor, "t out t in"], tolerance: float | None = None, n_positions: int = N_POSITIONS
) -> Float[Tensor, "n"]:
    """The same for an operator of all channels together, as `probed_operator` gives it; at most K V of a head."""
    whole = operator.flatten(2).flatten(0, 1)
    blocks = [operator[i:, :, :i].flatten(2).flatten(0, 1) for i in _splits(operator[:, 0, :, 0], n_positions)]
    return torch.stack([_size(block, whole, tolerance) for block in blocks])


def state_share(sizes: Float[Tensor, "*b"], n_keys: int, n_values: int) -> float:
    """The largest effective state size over min(K, V), the rank that a head's state can have."""
    return float(sizes.max()) / min(n_keys, n_values)


def state_rank_share(states: Float[Tensor, "*b k v"]) -> float:
    """Mean effective rank of state matrices over min(K, V); in [0, 1]."""
    return float(effective_rank(states).mean()) / min(states.shape[-2:])


def _splits(operator: Float[Tensor, "*b t t2"], n_positions: int) -> list[int]:
    n_tokens = operator.shape[-1]
    if n_tokens < 2:
        raise ValueError(f"an effective state size needs at least 2 tokens, got {n_tokens}; give a longer sequence")
    n = min(n_positions, n_tokens - 1)
    return [1 + (n_tokens - 1) * (2 * k + 1) // (2 * n) for k in range(n)]


def _size(block: Float[Tensor, "*b n d"], whole: Float[Tensor, "*b n2 d2"], tolerance: float | None) -> Tensor:
    values = torch.linalg.svdvals(in_float64(block))
    if tolerance is None:
        return entropy_rank(values)
    largest = torch.linalg.matrix_norm(in_float64(whole), 2)
    return in_float64((values > tolerance * largest.unsqueeze(-1)).sum(-1))
