"""H3: a shift before, and a diagonal state space over, the products of keys and values, looked up by queries.

    k_t = conv(W_k x)_t                              the shift state space: the last `taps` keys, weighed
    S_t = A S_{t-1} + B k_t v_t^T                    the diagonal state space, over every product of a key and a value
    r_t = (2 Re(C S_t))^T q_t
    y_t = W_o (r_t + D (k_t v_t^T)^T q_t)

A key that comes from the token before binds it to the present value; the query asks for it later. What is written is
k_t v_t^T; A, B, C are one system per head, the same for every token, so nothing chooses what is kept.

Why: the simplest layer of state spaces that can recall: a shift to bind, a product to look up.

Known limits: nothing depends on the input, so it cannot choose what to keep, and recall of many pairs needs many
states.

Source: Fu, Dao, Saab, Thomas, Rudra, Ré 2022, "Hungry Hungry Hippos" (arXiv 2212.14052), section 3.1, algorithm 1.
Differs: a short convolution of `shift` taps is what the shift state space of `shift` states computes, its skip path
being a tap; projections have no bias.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.parts import ShortConvolution, empty_state, require, state_bytes
from mnemoscope.memories.s4d import Dynamics, Start, require_dynamics, scan_flops
from mnemoscope.ops.diagonal_ssm import (
    System,
    diagonal_ssm_chunked,
    diagonal_ssm_read,
    diagonal_ssm_states,
    diagonal_ssm_step,
    diagonal_ssm_windowed,
)


@dataclass(frozen=True, kw_only=True)
class H3Config:
    """H3.

    Args:
        head_width: channels of keys and values of a head; must divide the model width. The state grows with it.
        shift: taps of the shift over keys, the present one included; 2 or more bind a token to the one before.
        n_states: N, states of a product counted with their conjugates; even.
        start: first frequencies: "lin" pi n, "inv" (N / pi) (N / (2 n + 1) - 1).
        shortest_step: smallest time step of a head at the start; its memory is about 2 / step tokens.
        longest_step: largest time step of a head at the start; heads are log-uniform in between.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["h3"] = "h3"
    head_width: int = 8
    shift: int = 4
    n_states: int = 64
    start: Start = "lin"
    shortest_step: float = 0.001
    longest_step: float = 0.1

    def __post_init__(self) -> None:
        require(self.head_width >= 1, "h3.head_width", "at least 1", self.head_width, "use 1 or more")
        require(self.shift >= 1, "h3.shift", "at least 1 tap", self.shift, "use 1 to shift nothing")
        require_dynamics("h3", self.n_states, self.start, self.shortest_step, self.longest_step)


class H3State(NamedTuple):
    """Complex states of every product of a key and a value (real and imaginary part last), and the last keys."""

    s: Float[Tensor, "b h k v n two"]
    tail: Float[Tensor, "b tail d"]


class Scan(nn.Module):
    """The diagonal state space over all tokens; a module of its own, so that a replay can answer it from the record."""

    def forward(
        self, written: Float[Tensor, "b t h"], system: System, state: Float[Tensor, "b h n two"]
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b h n two"]]:
        """Chunked form; every product of a key and a value is a sequence of its own."""
        return diagonal_ssm_chunked(written, system, state)


class H3(nn.Module):
    """H3. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h k v n 2)."""

    role: Role = "memory"

    def __init__(self, config: H3Config, d_model: int) -> None:
        super().__init__()
        w = config.head_width
        require(d_model % w == 0, "h3: d_model", f"a multiple of head_width={w}", d_model, "change either")
        self.config, self.d_model, self.n_heads = config, d_model, d_model // w
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.shift = ShortConvolution(d_model, config.shift)
        steps = (config.shortest_step, config.longest_step)
        self.dynamics = Dynamics(self.n_heads, config.n_states, config.start, *steps)
        self.skip = nn.Parameter(torch.randn(self.n_heads))
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.scan = Scan()
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> H3State:
        """An empty memory."""
        h, w, n = self.n_heads, self.config.head_width, self.config.n_states // 2
        return H3State(empty_state(self.out.weight, batch, h, w, w, n, 2), self.shift.init_tail(batch))

    def step(self, x: Float[Tensor, "b d"], state: H3State) -> tuple[Float[Tensor, "b d"], H3State]:
        """Shift the key, write its product with the value, read by the query: constant time and memory."""
        q, written, tail = self._inputs(x.unsqueeze(1), state.tail)
        system = self.dynamics.system()
        s = diagonal_ssm_step(_by_head(state.s), _products(written)[:, 0], system)
        s = _by_product(s, state.s.shape)
        if self.state.observed:
            s = self.state(s.unsqueeze(1)).squeeze(1)
        looked_up = diagonal_ssm_read(rearrange(s, "b h k v n z -> b k v h n z"), system).to(x.dtype)
        looked_up = rearrange(looked_up, "b k v h -> b 1 h k v")
        return self._contribute(q, written, looked_up).squeeze(1), H3State(s, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: H3State | None = None
    ) -> tuple[Float[Tensor, "b t d"], H3State]:
        """All tokens at once in chunks; the states are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        state, system = state or self.init_state(x.shape[0]), self.dynamics.system()
        q, written, tail = self._inputs(x, state.tail)
        if self.state.observed:
            states = diagonal_ssm_states(_products(written), system, _by_head(state.s))
            b, _, k, v = state.s.shape[:4]
            states = self.state(rearrange(states, "(b k v) t h n z -> b t h k v n z", b=b, k=k, v=v))
            looked_up = diagonal_ssm_read(rearrange(states, "b t h k v n z -> b t k v h n z"), system).to(x.dtype)
            looked_up, s = (
                rearrange(looked_up, "b t k v h -> b t h k v"),
                states[:, -1].clone(memory_format=torch.contiguous_format),
            )
        else:
            looked_up, s = self.scan(_products(written), system, _by_head(state.s))
            looked_up, s = _like(looked_up, written), _by_product(s, state.s.shape)
        return self._contribute(q, written, looked_up), H3State(s, tail)

    @property
    def reach(self) -> None:
        """Everything since the first token."""
        return None

    def windowed(self, x: Float[Tensor, "b t d"], window: int) -> Float[Tensor, "b t d"]:
        """Outputs with only the last `window` products in the diagonal state space; the shift stays as it is."""
        q, written, _ = self._inputs(x, self.shift.init_tail(x.shape[0]))
        looked_up = diagonal_ssm_windowed(_products(written), self.dynamics.system(), window)
        return self._contribute(q, written, _like(looked_up, written))

    def _inputs(
        self, x: Float[Tensor, "b t d"], tail: Float[Tensor, "b tail d"]
    ) -> tuple[Float[Tensor, "b t h k"], Float[Tensor, "b t h k v"], Float[Tensor, "b tail d"]]:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        k, tail = self.shift(k, tail)
        q, k, v = (rearrange(part, "b t (h k) -> b t h k", h=self.n_heads) for part in (q, k, v))
        return q, k.unsqueeze(-1) * v.unsqueeze(-2), tail

    def _contribute(
        self, q: Float[Tensor, "b t h k"], written: Float[Tensor, "b t h k v"], looked_up: Float[Tensor, "b t h k v"]
    ) -> Float[Tensor, "b t d"]:
        # Sums of products rather than einsum, which would make a batch of tiny matrix products of it.
        q = q.unsqueeze(-1)
        read = self.read((q * looked_up).sum(-2))
        read = read + self.skip.unsqueeze(-1) * (q * written).sum(-2)
        return self.contribution(self.out(rearrange(read, "b t h v -> b t (h v)")))

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """The states and the tail of keys: the same for any number of tokens."""
        states, tail = self.config.head_width * self.config.n_states, self.config.shift - 1
        carried, shown = (batch * self.d_model * n for n in (states, tail))
        return state_bytes(self.out.weight, carried=carried, shown=shown)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections and the products of the chunked form; queries are sums of products."""
        scan = scan_flops(batch * self.config.head_width**2, tokens, self.n_heads, self.config.n_states)
        return scan + 8 * batch * tokens * self.d_model**2


def _products(written: Float[Tensor, "b t h k v"]) -> Float[Tensor, "bkv t h"]:
    return rearrange(written, "b t h k v -> (b k v) t h")


def _like(looked_up: Float[Tensor, "bkv t h"], written: Float[Tensor, "b t h k v"]) -> Float[Tensor, "b t h k v"]:
    b, _, _, k, v = written.shape
    return rearrange(looked_up, "(b k v) t h -> b t h k v", b=b, k=k, v=v)


def _by_head(s: Float[Tensor, "b h k v n two"]) -> Float[Tensor, "bkv h n two"]:
    return rearrange(s, "b h k v n z -> (b k v) h n z")


def _by_product(s: Float[Tensor, "bkv h n two"], shape: torch.Size) -> Float[Tensor, "b h k v n two"]:
    b, _, k, v = shape[:4]
    return rearrange(s, "(b k v) h n z -> b h k v n z", b=b, k=k, v=v).contiguous()
