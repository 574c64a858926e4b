"""A linear time-invariant state space with a diagonal matrix, as a recurrence, as a convolution and in chunks.

    s_t = A s_{t-1} + B u_t          y_t = 2 Re(C s_t)

Each channel has n complex states; each stands for itself and its conjugate, hence the 2 Re. Complex numbers are
pairs of real ones (the last axis, "two"), so that states and parameters are ordinary tensors in any precision.

Source: Gu, Gupta, Goel, Ré 2022, "On the Parameterization and Initialization of Diagonal State Space Models"
(arXiv 2206.11893), section 3.
"""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from mnemoscope.ops.precision import exact, exact_read

CHUNK_TOKENS = 32
"""Fastest of 16, 32, 64 and 128 on a CPU for 32 pairs of states a channel; the result does not depend on it."""


class System(NamedTuple):
    """A discrete system per channel.

    Args:
        log_retention: log |A|, never positive where the system is stable.
        angle: the argument of A, in radians a token.
        write: B.
        read: C.
    """

    log_retention: Float[Tensor, "h n"]
    angle: Float[Tensor, "h n"]
    write: Float[Tensor, "h n two"]
    read: Float[Tensor, "h n two"]


@exact
def discretise(
    log_step: Float[Tensor, "h"],
    log_rate: Float[Tensor, "h n"],
    frequency: Float[Tensor, "h n"],
    read: Float[Tensor, "h n two"],
) -> System:
    """Zero-order hold of s' = a s + u with a = -exp(log_rate) + i frequency, over steps exp(log_step).

    A = exp(step a) and B = (exp(step a) - 1) / a, where exp(z) - 1 is formed without cancellation, since steps start
    at a thousandth. Half precision is widened to float32: in bfloat16 every retention near one would be one.
    """
    compute = torch.float64 if log_step.dtype == torch.float64 else torch.float32
    step, rate, frequency = log_step.to(compute).exp().unsqueeze(-1), log_rate.to(compute).exp(), frequency.to(compute)
    log_retention, angle = -step * rate, step * frequency
    real = torch.expm1(log_retention) * angle.cos() - 2 * (angle / 2).sin().square()
    imaginary = log_retention.exp() * angle.sin()
    size = rate.square() + frequency.square()
    write = torch.stack([imaginary * frequency - real * rate, -imaginary * rate - real * frequency], dim=-1)
    return System(log_retention, angle, write / size.unsqueeze(-1), read.to(compute))


def diagonal_ssm_kernel(system: System, n_lags: int) -> Float[Tensor, "h l"]:
    """What an input of one gives at lags 0 to n_lags - 1: the system as a convolution."""
    return torch.einsum("hnlz,hnz->hl", _read_powers(system.read, _powers(system, n_lags - 1)), system.write)


@exact
def diagonal_ssm_step(state: Float[Tensor, "b h n two"], u: Float[Tensor, "b h"], system: System) -> Tensor:
    """The state (b h n two) after one more input."""
    return complex_product(state, _powers(system, 1)[:, :, 1]) + system.write * u[:, :, None, None]


@exact
def diagonal_ssm_states(
    u: Float[Tensor, "b t h"], system: System, state: Float[Tensor, "b h n two"]
) -> Float[Tensor, "b t h n two"]:
    """The state after every input; O(b t h n) memory."""
    state, states = state.to(system.write.dtype), []
    for u_t in u.to(system.write.dtype).unbind(1):
        state = diagonal_ssm_step(state, u_t, system)
        states.append(state)
    return torch.stack(states, dim=1)


@exact
def diagonal_ssm_read(states: Float[Tensor, "*b h n two"], system: System) -> Float[Tensor, "*b h"]:
    """2 Re(C s)."""
    return 2 * (states * _conjugate(system.read)).sum((-1, -2))


@exact_read
def diagonal_ssm_recurrent(
    u: Float[Tensor, "b t h"], system: System, state: Float[Tensor, "b h n two"]
) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b h n two"]]:
    """One input at a time: the slow twin, and the form in which states can be seen."""
    states = diagonal_ssm_states(u, system, state)
    return diagonal_ssm_read(states, system).to(u.dtype), states[:, -1].to(u.dtype)


@exact_read
def diagonal_ssm_chunked(
    u: Float[Tensor, "b t h"],
    system: System,
    state: Float[Tensor, "b h n two"],
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b h n two"]]:
    """All inputs in matrix products over chunks; equals `diagonal_ssm_recurrent`.

    Within a chunk the system is a triangular matrix per channel, from chunk to chunk it is its own recurrence. Unlike
    a convolution over the whole length, powers of A are needed for one chunk only, and the last state comes for free.

    Returns:
        Reads in the dtype of `u`, and the state after the last input, in float32 at least.

    Cost: O(t (c + 4 n)) multiply-adds a channel for chunks of c tokens; t / c steps in sequence.
    """
    dtype, (b, n_tokens), compute = u.dtype, u.shape[:2], system.write.dtype
    c = min(chunk_tokens, n_tokens)
    n_chunks = -(-n_tokens // c)
    n_last = n_tokens - (n_chunks - 1) * c
    powers = _powers(system, c)
    reads = _read_powers(system.read, powers)
    kernel = torch.einsum("hnlz,hnz->hl", reads[:, :, :c], system.write)
    look_up = rearrange(reads[:, :, 1:], "h n c z -> h (z n) c")
    write = rearrange(complex_product(system.write.unsqueeze(2), powers[:, :, :c]).flip(2), "h n c z -> h c (z n)")

    chunks = rearrange(F.pad(u.to(compute), (0, 0, 0, n_chunks * c - n_tokens)), "b (n c) h -> h (n b) c", c=c)
    n_before = (n_chunks - 1) * b
    written = rearrange(chunks[:, :n_before] @ write, "h (n b) (z s) -> n h b z s", b=b, z=2)
    starts, last = _carry(written, powers[:, :, c], rearrange(state.to(compute), "b h s z -> h b z s"))
    read = torch.baddbmm(chunks @ _causal_matrix(kernel), starts, look_up)

    rest = rearrange(chunks[:, n_before:, :n_last] @ write[:, c - n_last :], "h b (z s) -> b h s z", z=2)
    last = complex_product(rearrange(last, "h b z s -> b h s z"), powers[:, :, n_last]) + rest
    return rearrange(read, "h (n b) c -> b (n c) h", b=b)[:, :n_tokens].to(dtype), last.to(dtype)


@exact_read
def diagonal_ssm_windowed(u: Float[Tensor, "b t h"], system: System, window: int) -> Float[Tensor, "b t h"]:
    """Reads with only the last `window` inputs in memory, exactly: a convolution of `window` taps, by subtraction.

    What is older is an ordinary read at t - window by a system whose C is carried through the window, C A^window.
    """
    empty = u.new_zeros(u.shape[0], *system.write.shape)
    reads, _ = diagonal_ssm_chunked(u, system, empty)
    if window >= u.shape[1]:
        return reads
    carried = system._replace(read=complex_product(system.read, _power(system, window)))
    older, _ = diagonal_ssm_chunked(u[:, :-window], carried, empty)
    return torch.cat([reads[:, :window], reads[:, window:] - older], dim=1)


def complex_product(a: Float[Tensor, "*a two"], b: Float[Tensor, "*b two"]) -> Float[Tensor, "*c two"]:
    """The product of complex numbers, each a pair of real ones."""
    (a_real, a_imaginary), (b_real, b_imaginary) = a.unbind(-1), b.unbind(-1)
    return torch.stack(
        [a_real * b_real - a_imaginary * b_imaginary, a_real * b_imaginary + a_imaginary * b_real], dim=-1
    )


def _power(system: System, exponent: Tensor | int) -> Tensor:
    """A to a power; for a tensor of exponents (l) with an axis of powers, (h n l two)."""
    log_retention, angle = system.log_retention, system.angle
    if isinstance(exponent, Tensor):
        log_retention, angle = log_retention.unsqueeze(-1), angle.unsqueeze(-1)
    size, angle = (log_retention * exponent).exp(), angle * exponent
    return torch.stack([size * angle.cos(), size * angle.sin()], dim=-1)


def _powers(system: System, last: int) -> Float[Tensor, "h n l two"]:
    """A^0 to A^last."""
    return _power(system, torch.arange(last + 1, device=system.angle.device, dtype=system.angle.dtype))


def _read_powers(read: Float[Tensor, "h n two"], powers: Float[Tensor, "h n l two"]) -> Float[Tensor, "h n l two"]:
    """The rows that read A^l s for every power A^l: 2 Re(C A^l s) is their plain product with the pair s."""
    return 2 * _conjugate(complex_product(read.unsqueeze(2), powers))


def _conjugate(z: Float[Tensor, "*a two"]) -> Float[Tensor, "*a two"]:
    return torch.stack([z[..., 0], -z[..., 1]], dim=-1)


def _causal_matrix(kernel: Float[Tensor, "h c"]) -> Float[Tensor, "h c c2"]:
    """Row s, column t holds kernel[t - s], zero before s: chunks @ matrix is the convolution."""
    c = kernel.shape[1]
    return F.pad(kernel, (c - 1, 0)).unfold(1, c, 1).flip(1)


def _carry(
    written: Float[Tensor, "chunks h b two s"], power: Float[Tensor, "h s two"], state: Float[Tensor, "h b two s"]
) -> tuple[Float[Tensor, "h chunks_b two_s"], Float[Tensor, "h b two s"]]:
    """The state before every chunk, side by side, and that before the last."""
    real, imaginary = power.unbind(-1)
    straight = torch.stack([real, real], dim=-2).unsqueeze(1)
    across = torch.stack([-imaginary, imaginary], dim=-2).unsqueeze(1)
    starts = [state]
    for written_n in written.unbind():
        state = torch.addcmul(torch.addcmul(written_n, state, straight), state.flip(-2), across)
        starts.append(state)
    return rearrange(torch.stack(starts, dim=1), "h n b z s -> h (n b) (z s)"), state
