"""The Omega rule with a matrix: gradient steps on the last tokens' errors, with momentum and retention, in chunks.

    l_i(M) = gamma_i |phi(k_i) M - v_i|^2   (delta)     or     -gamma_i phi(k_i) M v_i^T   (dot)
    G_n = sum_{n-c < i <= n} grad l_i(M*)          M* = the memory at the start of n's chunk
    S_n = theta_n S_{n-1} - eta_n G_n              M_n = alpha_n M_{n-1} + S_n              r_n = phi(q_n) M_n

with retention alpha, momentum theta, step size eta, window c and window weights gamma. Without momentum S_n is the
last term alone. Orthogonalised, M_n = alpha_n M_{n-1} + eta_n s NS(S_n) at the last token of every update block, s =
sqrt(max(1, D / V)), and M_n = alpha_n M_{n-1} elsewhere.

Here is the recurrence; the fast form is in `omega_chunked`.

Source: Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735), equations 9 to 11, 32, 33 and appendix D; gradients at
the start of a chunk as in Titans (arXiv 2501.00663), section 3.2.
"""

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.ops.newton_schulz import newton_schulz
from mnemoscope.ops.precision import exact, exact_read

Objective = Literal["delta", "dot"]


class Rule(NamedTuple):
    """What is fixed for all tokens.

    Args:
        chunk_tokens: tokens whose gradients are taken at the same memory.
        window: tokens in each objective, c.
        objective: squared error, or inner product.
        orthogonalise: Newton-Schulz steps on S; 0 for none.
        update_every: tokens between orthogonalised updates; divides chunk_tokens.
    """

    chunk_tokens: int
    window: int = 1
    objective: Objective = "delta"
    orthogonalise: int = 0
    update_every: int = 1


class Writes(NamedTuple):
    """What is written: keys (as features), values and window weights start c - 1 tokens before the gates.

    Args:
        k, v, window_weight: of the window's past, then of the t tokens; a weight of zero is a token that never was.
        step_size, log_retention, log_momentum: of the t tokens; no momentum at all is None.
    """

    k: Float[Tensor, "b s h k"]
    v: Float[Tensor, "b s h v"]
    window_weight: Float[Tensor, "b s h"]
    step_size: Float[Tensor, "b t h"]
    log_retention: Float[Tensor, "b t h"]
    log_momentum: Float[Tensor, "b t h"] | None

    def at(self, start: int, stop: int) -> "Writes":
        """The writes of a stretch of the t tokens, with the window's past before it."""
        past = self.k.shape[1] - self.step_size.shape[1]
        k, v, weight = (tensor[:, start : stop + past] for tensor in self[:3])
        step_size, retention = self.step_size[:, start:stop], self.log_retention[:, start:stop]
        momentum = None if self.log_momentum is None else self.log_momentum[:, start:stop]
        return Writes(k, v, weight, step_size, retention, momentum)


class Store(NamedTuple):
    """The memory at the start of the present chunk, the memory, and the momentum (of no rows where there is none)."""

    anchor: Float[Tensor, "b h k v"]
    memory: Float[Tensor, "b h k v"]
    surprise: Float[Tensor, "b h s v"]


@exact_read
def omega_recurrent(
    q: Float[Tensor, "b t h k"], writes: Writes, store: Store, rule: Rule, position: int = 0
) -> tuple[Float[Tensor, "b t h v"], Store]:
    """Read after each write, one token at a time: the slow twin, and the form in which states can be seen."""
    states, store = omega_states(writes, store, rule, torch.tensor(position))
    return torch.einsum("bthk,bthkv->bthv", q, states), store


@exact
def omega_states(
    writes: Writes, store: Store, rule: Rule, position: Int[Tensor, ""]
) -> tuple[Float[Tensor, "b t h k v"], Store]:
    """The memory after every token; O(b t h k v) memory."""
    states = []
    for t in range(writes.step_size.shape[1]):
        store = omega_step(writes.at(t, t + 1), store, rule, (position + t) % rule.chunk_tokens)
        states.append(store.memory)
    return torch.stack(states, dim=1), store


@exact
def omega_step(write: Writes, store: Store, rule: Rule, position: Int[Tensor, ""]) -> Store:
    """One more token, which is number `position` of its chunk; `write` holds its window."""
    error = write.window_weight.unsqueeze(-1) * _error(write.k, write.v, store.anchor, rule.objective)
    descent = -write.step_size.mT.unsqueeze(-1) * torch.einsum("bchk,bchv->bhkv", write.k, error)
    if write.log_momentum is not None:
        descent = descent + write.log_momentum.exp().mT.unsqueeze(-1) * store.surprise
    update, done = descent, position + 1
    if rule.orthogonalise:
        update = write.step_size.mT.unsqueeze(-1) * orthogonalised(descent, rule.orthogonalise)
        update = torch.where(done % rule.update_every == 0, update, 0)
    memory = write.log_retention.exp().mT.unsqueeze(-1) * store.memory + update
    surprise = store.surprise if write.log_momentum is None else descent
    return Store(anchored(store.anchor, memory, done % rule.chunk_tokens), memory, surprise)


def anchored(
    anchor: Float[Tensor, "b h k v"], memory: Float[Tensor, "b h k v"], position: Int[Tensor, ""]
) -> Float[Tensor, "b h k v"]:
    """Where the next gradient is taken: the memory, if a chunk starts at this position."""
    return torch.where(position == 0, memory, anchor)


def orthogonalised(surprise: Float[Tensor, "*b k v"], steps: int) -> Float[Tensor, "*b k v"]:
    """Newton-Schulz of the momentum, scaled so that tall matrices move as far as square ones."""
    k, v = surprise.shape[-2:]
    return math.sqrt(max(1.0, k / v)) * newton_schulz(surprise, steps)


def _error(
    k: Float[Tensor, "b s h k"], v: Float[Tensor, "b s h v"], memory: Float[Tensor, "b h k v"], objective: Objective
) -> Float[Tensor, "b s h v"]:
    return 2 * (torch.einsum("bshk,bhkv->bshv", k, memory) - v) if objective == "delta" else -v
