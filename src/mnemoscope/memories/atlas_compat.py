"""The memory of the Atlas tuning guide's public code, as that code computes it: to be compared with `omega`, not used.

    phi(k) = [a_0 1, a_1 k, a_2 k^2]                powers channel by channel: 3 d features, of which 2 d + 1 are free
    of each chunk of c tokens, x_c its last:
    alpha, theta, eta' = sigmoid(w x_c + bias)      eta = eta' / 2
    gamma_i = sigmoid(<W_a x_c, W_b x_i> / (sqrt(d) max(T, 0.1)))
    G = 2/c sum_i gamma_i phi(k_i)^T (phi(k_i) M - v_i)
    S <- theta S - eta G        M <- alpha M + S, shrunk to a norm of `largest_norm` where it is larger
    and when the whole sequence is written, at every position:
    y_t = W_o (phi(W_r W_q x_t) M)

It differs from `omega` in what a user would not expect of it, each of which can be turned off alone:

    detach_write    nothing that is written gets a gradient: of the layer's parameters only the coefficients a_i, W_q,
                    W_r and W_o are ever trained, while keys, values and gates stay as they were drawn
    reads_ahead     every position reads the memory as the end of the call leaves it, and so sees later tokens; a call
                    with a sequence in pieces gives something else than one call
    step_scale      the step is half of what `initial_step_size` says

Key and value are of the same token, without a convolution: a layer stores x_i under x_i. This breaks what a memory
promises here (causal, the same in pieces), so it is not among the memories; a layout may name it all the same. With
reads_ahead=False it is causal, and a token reads what complete chunks have left.

Source: r3d91ll/Todd_Atlas, commit cb56db6, `src/model/omega_memory.py`, what it computes. Differs: states are float32
at least (there in the dtype of the activations); the state begins empty where a call gives none, rather than whenever
the batch's size changes.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from pydantic import ConfigDict
from torch import Tensor, nn

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.gates import require_start
from mnemoscope.memories.parts import empty_state, require, state_bytes
from mnemoscope.ops.features import exponential_coefficients
from mnemoscope.ops.precision import at_least_float32, exact

LEAST_TEMPERATURE = 0.1
EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class AtlasCompatConfig:
    """The public code's memory.

    Args:
        chunk_tokens: c, tokens of a chunk, which is also the window of its objective; chunks count from the start of a
            call, and the last may be shorter.
        degree: of the powers.
        initial_retention: where alpha starts.
        initial_momentum: where theta starts.
        initial_step_size: where eta starts, before `step_scale`.
        step_scale: what the step is multiplied by.
        largest_norm: of M, Frobenius.
        detach_write: write under no gradient.
        reads_ahead: read what the end of the call has left.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["atlas_compat"] = "atlas_compat"
    chunk_tokens: int = 16
    degree: int = 2
    initial_retention: float = 0.99
    initial_momentum: float = 0.9
    initial_step_size: float = 0.1
    step_scale: float = 0.5
    largest_norm: float = 50.0
    detach_write: bool = True
    reads_ahead: bool = True

    def __post_init__(self) -> None:
        for name in ("chunk_tokens", "degree"):
            value = getattr(self, name)
            require(value >= 1, f"atlas_compat.{name}", "at least 1", value, "use 1 or more")
        for name in ("initial_retention", "initial_momentum", "initial_step_size"):
            require_start(getattr(self, name), f"atlas_compat.{name}")
        for name in ("step_scale", "largest_norm"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"atlas_compat.{name}", "positive and finite", value, "use its default")


class AtlasCompatState(NamedTuple):
    """M and S."""

    memory: Float[Tensor, "b f d"]
    surprise: Float[Tensor, "b f d"]


class Written(NamedTuple):
    """What one chunk does to the memory, and the features of its keys."""

    k: Float[Tensor, "b c f"]
    v: Float[Tensor, "b c d"]
    weight: Float[Tensor, "b c"]
    retention: Float[Tensor, "b 1 1"]
    momentum: Float[Tensor, "b 1 1"]
    step_size: Float[Tensor, "b 1 1"]


class WindowWeights(nn.Module):
    """gamma: how much each token of a chunk weighs, as its last token sees it."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.last, self.each = (_xavier(d_model) for _ in range(2))
        self.temperature = nn.Parameter(torch.ones(1))

    def forward(self, chunk: Float[Tensor, "b c d"]) -> Float[Tensor, "b c"]:
        """In (0, 1)."""
        scores = torch.einsum("bd,bcd->bc", self.last(chunk[:, -1]), self.each(chunk))
        return (scores / (chunk.shape[-1] ** 0.5 * self.temperature.clamp(min=LEAST_TEMPERATURE))).sigmoid()


class AtlasCompat(nn.Module):
    """The public code's memory. Read points: `read` (b t d), `contribution` (b t d), `state` (b t 1 f d)."""

    role: Role = "memory"

    def __init__(self, config: AtlasCompatConfig, d_model: int) -> None:
        super().__init__()
        self.config, self.d_model = config, d_model
        self.n_features = (config.degree + 1) * d_model
        self.key, self.value, self.query, self.out = (_xavier(d_model) for _ in range(4))
        self.query_to_key = nn.Linear(d_model, d_model, bias=False)
        nn.init.eye_(self.query_to_key.weight)
        self.coefficients = nn.Parameter(torch.tensor(exponential_coefficients(config.degree)))
        self.window_weights = WindowWeights(d_model)
        self.retention = _gate(d_model, config.initial_retention)
        self.momentum = _gate(d_model, config.initial_momentum)
        self.step_size = _gate(d_model, config.initial_step_size)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> AtlasCompatState:
        """Nothing written."""
        return AtlasCompatState(*(empty_state(self.out.weight, batch, self.n_features, self.d_model) for _ in range(2)))

    def step(self, x: Float[Tensor, "b d"], state: AtlasCompatState) -> tuple[Float[Tensor, "b d"], AtlasCompatState]:
        """A call with one token, which is a chunk of its own: not what `forward` gives for the whole sequence."""
        y, state = self.forward(x.unsqueeze(1), state)
        return y.squeeze(1), state

    def forward(
        self, x: Float[Tensor, "b t d"], state: AtlasCompatState | None = None
    ) -> tuple[Float[Tensor, "b t d"], AtlasCompatState]:
        """Write all tokens, then read; with reads_ahead=False read what each token has behind it."""
        state = state or self.init_state(x.shape[0])
        detached = self.config.detach_write
        with torch.set_grad_enabled(torch.is_grad_enabled() and not detached):
            before = AtlasCompatState(*(part.detach() for part in state)) if detached else state
            memories, after = self._write(x, before)
        if self.state.observed:
            seen = self.state(self._after_every_token(memories, x.shape[1]).unsqueeze(2)).squeeze(2)
            memories, after = [*seen.unbind(1)], after._replace(memory=seen[:, -1].clone())
        read = self._read(self._powers(self.query_to_key(self.query(x))), memories)
        return self.contribution(self.out(self.read(read.to(x.dtype)))), after

    def _write(self, x: Tensor, state: AtlasCompatState) -> tuple[list[Tensor], AtlasCompatState]:
        """M before the first chunk and after every one, and the state after the last."""
        memories = [state.memory]
        for chunk in x.split(self.config.chunk_tokens, dim=1):
            state = AtlasCompatState(*_written(self._of(chunk), state.memory, state.surprise, self.config.largest_norm))
            memories.append(state.memory)
        return memories, state

    def _of(self, chunk: Float[Tensor, "b c d"]) -> Written:
        last = chunk[:, -1:]
        gates = (head(last).to(at_least_float32(chunk.dtype)).sigmoid() for head in self._heads)
        retention, momentum, step_size = gates
        weight = self.window_weights(chunk)
        step_size = self.config.step_scale * step_size
        return Written(self._powers(self.key(chunk)), self.value(chunk), weight, retention, momentum, step_size)

    @property
    def _heads(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        return self.retention, self.momentum, self.step_size

    def _powers(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t f"]:
        powers = [torch.ones_like(x)]
        for _ in range(self.config.degree):
            powers.append(powers[-1] * x)
        return torch.cat([a * power for a, power in zip(self.coefficients, powers, strict=True)], dim=-1)

    def _read(self, q: Float[Tensor, "b t f"], memories: list[Tensor]) -> Float[Tensor, "b t d"]:
        """Of M after every token or, where nobody looks, before and after every chunk."""
        if self.config.reads_ahead:
            return _product(q, memories[-1])
        if self.state.observed:
            return torch.cat([_product(q[:, t : t + 1], memory) for t, memory in enumerate(memories)], dim=1)
        reads, c = [], self.config.chunk_tokens
        for part, before, after in zip(q.split(c, dim=1), memories, memories[1:], strict=False):
            reads += [_product(part[:, :-1], before), _product(part[:, -1:], after)]
        return torch.cat(reads, dim=1)

    def _after_every_token(self, memories: list[Tensor], n_tokens: int) -> Float[Tensor, "b t f d"]:
        """M changes at the last token of a chunk."""
        c = self.config.chunk_tokens
        ends = [min((n + 1) * c, n_tokens) - 1 for n in range(len(memories) - 1)]
        return torch.stack([memories[sum(end <= t for end in ends)] for t in range(n_tokens)], dim=1)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """M and S."""
        return state_bytes(self.out.weight, carried=2 * batch * self.n_features * self.d_model)

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, and three products with the memory a token."""
        d, n_chunks = self.d_model, -(-tokens // self.config.chunk_tokens)
        projected = 6 * tokens * d * d + n_chunks * d * (d + 3) + tokens * d
        return 2 * batch * (projected + 3 * tokens * self.n_features * d)


@exact
def _written(
    writes: Written, memory: Float[Tensor, "b f d"], surprise: Float[Tensor, "b f d"], largest_norm: float
) -> tuple[Float[Tensor, "b f d"], Float[Tensor, "b f d"]]:
    """M and S after one chunk."""
    error = writes.k @ memory - writes.v
    gradient = 2 / writes.k.shape[1] * (writes.k.mT @ (writes.weight.unsqueeze(-1) * error))
    surprise = writes.momentum * surprise - writes.step_size * gradient
    memory = writes.retention * memory + surprise
    norm = memory.norm(dim=(-2, -1), keepdim=True)
    return memory * (largest_norm / (norm + EPSILON)).clamp(max=1), surprise


@exact
def _product(q: Float[Tensor, "b t f"], memory: Float[Tensor, "b f d"]) -> Float[Tensor, "b t d"]:
    return q @ memory


def _xavier(d_model: int) -> nn.Linear:
    layer = nn.Linear(d_model, d_model, bias=False)
    nn.init.xavier_uniform_(layer.weight)
    return layer


def _gate(d_model: int, start: float) -> nn.Linear:
    gate = nn.Linear(d_model, 1)
    nn.init.normal_(gate.weight, std=0.01)
    nn.init.constant_(gate.bias, math.log(start) - math.log1p(-start))
    return gate
