"""A two-layer network per head as memory: it learns keys to values by gradient descent at test time, a query reads it.

    M(x) = [x +] gelu(x U) D                               gated: [x +] (gelu(x U_1) * x U_2) D
    G_t = sum_{t-w < i <= t} g_i grad l_i(M_start)         l_i(M) = |M(f(k_i)) - v_i|^2, or -<M(f(k_i)), v_i>
    S_t = m_t S_{t-1} - e_t G_t          M_t = a_t M_{t-1} + S_t          r_t = M_t(f(q_t))
    y_t = W_o (rms(r_t) * silu(W_g x_t))

for U and D alike, from trained U_0 and D_0. M_start is the network at the start of the token's chunk, so the chunk's
length is a part of the model; it is kept with the weights. With granularity "chunk" momentum and retention act once per
chunk, S <- m S - sum_i e_i grad l_i(M_start) and M <- a M + S with gates at the mean of the chunk's logits, and its
tokens read M_start: a third of the arithmetic, for reads that know nothing of their own chunk. f is a feature map; q,
k, v and the gates are as in the matrix memory `omega`. With window 1 and neither momentum nor retention it is TTT-MLP's
gradient descent, with window 1 Titans' deep memory, with a window OmegaNet, gated the memory of Atlas++, with the dot
product and f of high degree DeepTransformer.

Why: a network as memory can hold more than a matrix of the same size, since what it stores need not be linear in
keys.

Known limits: several times the cost of a matrix; without normalised keys and small first steps its weights may
diverge.

Source: Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735), equations 9 to 11 and 32; Sun et al. 2024, "Learning to
(Learn at Test Time)" (arXiv 2407.04620); Behrouz et al. 2024, "Titans" (arXiv 2501.00663).
Differs: no Newton-Schulz iteration, which would need every token's momentum; no layer normalisation of the network's
answer, which TTT-MLP has; g_i depends on the written token alone; the residual is left out where features are not as
wide as values. `normalise_memory` is our reading of layer normalisation at chunk ends: of the incoming weights of every
unit, with a trained scale, when a chunk begins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast

import torch
from einops import rearrange
from jaxtyping import Float, Int
from pydantic import ConfigDict
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.feature_maps import FeatureMap, FeatureOptions, Features
from mnemoscope.memories.gates import Gates, GateStarts, require_start
from mnemoscope.memories.parts import RmsNorm, ShortConvolution, asked, empty_state, require, state_bytes
from mnemoscope.ops.memory_network import Gains, Network, Objective, Shape, normalise_weights, read_network
from mnemoscope.ops.omega_mlp import (
    NetworkMemory,
    Recent,
    Rule,
    Writes,
    begin_chunk,
    chunk_sizes,
    omega_mlp_chunked,
    omega_mlp_step,
)
from mnemoscope.ops.omega_mlp_per_chunk import (
    ChunkMemory,
    ChunkWrites,
    per_chunk_begin,
    per_chunk_chunked,
    per_chunk_step,
)
from mnemoscope.ops.precision import at_least_float32

INITIAL_RETENTION, INITIAL_MOMENTUM = 0.999, 0.9
"""Retention starts nearer to 1 than that of a matrix: two layers that have decayed to zero have no gradient left."""

INITIAL_WINDOW_WEIGHT = 0.9
"""Near the ungated window, where the sigmoid still has a slope."""


@dataclass(frozen=True, kw_only=True)
class OmegaMlpConfig:
    """Network memory with the Omega rule.

    Args:
        n_heads: heads, one network each.
        head_width: channels of queries, keys and values of a head; None for d_model / n_heads.
        chunk_tokens: tokens that share the network at which their gradients are taken; 1 is exact, and slow.
        granularity: "token" for momentum and retention at every token and reads after each write; "chunk" for once
            per chunk, and reads with the network that the chunk found. "chunk" needs a window of 1.
        expansion: hidden units per value channel.
        gated: hidden layer gelu(x U_1) * x U_2.
        window: tokens whose objectives each step goes down, the present one included.
        momentum: carry the past steps on.
        retains: learn a data-dependent retention; off, everything is retained.
        gated_window: learn how much each token weighs in the objectives.
        objective: "delta" for the squared error, "dot" for minus the product with the value. That has no minimum:
            without `normalise_memory`, two layers run after it exponentially in a long sequence of like keys.
        features, degree, sketch_width, sketch_seed, learned_coefficients: map of queries and keys, see
            `mnemoscope.ops.features`.
        convolution: taps of the short convolution over q, k and v; 0 for none.
        normalise_qk: L2-normalise queries and keys, before the features.
        initial_retention, initial_momentum: where these gates start.
        initial_step_size: where the step size starts; None for `default_step_size`.
        normalise_memory: layer-normalise every unit's incoming weights as a chunk begins.
        detach_write: keys, values and gates are constants to the outer gradient, so that writing is not trained.
        normalise_read: RMS-normalise the read per head.
        output_gate: multiply the read by silu(W_g x).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")
    kind: Literal["omega_mlp"] = "omega_mlp"
    n_heads: int = 4
    head_width: int | None = None
    chunk_tokens: int = 16
    granularity: Literal["token", "chunk"] = "token"
    expansion: int = 4
    gated: bool = False
    window: int = 4
    momentum: bool = True
    retains: bool = True
    gated_window: bool = False
    objective: Objective = "delta"
    features: Features = "identity"
    degree: int | None = None
    sketch_width: int | None = None
    sketch_seed: int = 0
    learned_coefficients: bool = False
    convolution: int = 4
    normalise_qk: bool = True
    initial_retention: float = INITIAL_RETENTION
    initial_momentum: float = INITIAL_MOMENTUM
    initial_step_size: float | None = None
    normalise_memory: bool = False
    detach_write: bool = False
    normalise_read: bool = True
    output_gate: bool = True

    def __post_init__(self) -> None:
        where = "omega_mlp"
        for name in ("n_heads", "chunk_tokens", "window"):
            require(getattr(self, name) >= 1, f"{where}.{name}", "at least 1", getattr(self, name), "use 1 or more")
        require(1 <= self.expansion <= 4, f"{where}.expansion", "1, 2, 3 or 4", self.expansion, "use 4")
        require(self.convolution >= 0, f"{where}.convolution", "0 taps or more", self.convolution, "use 0 for none")
        require(
            self.head_width is None or self.head_width >= 1,
            f"{where}.head_width",
            "at least 1, or None for d_model / n_heads",
            self.head_width,
            "use None",
        )
        for name in ("initial_retention", "initial_momentum"):
            require_start(getattr(self, name), f"{where}.{name}")
        if self.initial_step_size is not None:
            require_start(self.initial_step_size, f"{where}.initial_step_size")
        require(
            self.retains or self.initial_retention == INITIAL_RETENTION,
            f"{where}.initial_retention",
            f"left at {INITIAL_RETENTION} where retains=False",
            self.initial_retention,
            "set retains=True or leave it out",
        )
        require(
            self.momentum or self.initial_momentum == INITIAL_MOMENTUM,
            f"{where}.initial_momentum",
            f"left at {INITIAL_MOMENTUM} where momentum=False",
            self.initial_momentum,
            "set momentum=True or leave it out",
        )
        require(
            self.window > 1 or not self.gated_window,
            f"{where}.gated_window",
            "off where window=1, since the step size already weighs a single token",
            self.gated_window,
            "set gated_window=False or a longer window",
        )
        require(
            self.window == 1 or self.granularity == "token",
            f"{where}.window",
            "1 where granularity='chunk', since a chunk's tokens all weigh in its one step",
            self.window,
            "set window=1 or granularity='token'",
        )
        require(
            self.normalise_qk or self.objective == "dot",
            f"{where}.normalise_qk",
            "on where objective='delta', since the descent grows without bound for long keys",
            self.normalise_qk,
            "set normalise_qk=True or objective='dot'",
        )
        self.feature_options.validate(where)

    @property
    def default_step_size(self) -> float:
        """Where a key that never changes is written about once per chunk, and so neither overshoots nor is lost.

        2 e w c / (1 - m) = 1: each of c tokens stands in w objectives, at one network, and momentum repeats every step
        1 / (1 - m) times. The network starts at a scale at which a step of 1 changes its answer by about the error.
        """
        return (1 - self.initial_momentum * self.momentum) / (2 * self.chunk_tokens * self.window)

    @property
    def feature_options(self) -> FeatureOptions:
        """Which feature map."""
        return FeatureOptions(
            self.features, self.degree, self.sketch_width, self.sketch_seed, self.learned_coefficients
        )


class OmegaMlpState(NamedTuple):
    """Networks, how many tokens of the present chunk they have seen (0 before the first token), convolution's tail."""

    memory: NetworkMemory | ChunkMemory
    position: Int[Tensor, ""]
    tail: Float[Tensor, "b tail d3"]


class Form(NamedTuple):
    """The functions of a granularity; each goes with memories and writes of its own."""

    step: Callable[..., Any]
    begin_chunk: Callable[..., Any]
    chunked: Callable[..., Any]


FORMS = {
    "token": Form(omega_mlp_step, begin_chunk, omega_mlp_chunked),
    "chunk": Form(per_chunk_step, per_chunk_begin, per_chunk_chunked),
}


class Scan(nn.Module):
    """The reads of all tokens; a module of its own, so that a replay can answer it from the record."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form

    def forward(
        self,
        q: Float[Tensor, "b t h k"],
        writes: Writes | ChunkWrites,
        memory: NetworkMemory | ChunkMemory,
        rule: Rule,
        position: int,
        gains: Gains | None,
    ) -> tuple[Float[Tensor, "b t h v"], NetworkMemory | ChunkMemory]:
        """Chunked form."""
        return self.form.chunked(q, writes, memory, rule, position, gains)


class OmegaMlp(nn.Module):
    """Network memory. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h weights: U, then D)."""

    role: Role = "memory"

    def __init__(self, config: OmegaMlpConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(
            config.head_width is not None or d_model % h == 0,
            "omega_mlp: d_model",
            f"a multiple of n_heads={h} unless head_width is given",
            d_model,
            "change either, or give head_width",
        )
        self.config, self.d_model = config, d_model
        self.head_width = w = config.head_width or d_model // h
        self.qkv = nn.Linear(d_model, 3 * h * w, bias=False)
        self.convolution = ShortConvolution(3 * h * w, config.convolution)
        self.features = FeatureMap(config.feature_options, w)
        starts = GateStarts(
            config.initial_step_size or config.default_step_size,
            config.initial_retention if config.retains else None,
            config.initial_momentum if config.momentum else None,
            INITIAL_WINDOW_WEIGHT if config.gated_window else None,
        )
        self.gates = Gates(starts, d_model, h)
        n, e = self.features.n_features, config.expansion * w
        # For keys of length one either layer then answers for about half of a step. The hidden layer of a gated network
        # is a product of two projections: the root makes up for it.
        up_std, down_std = (2 / (n + e)) ** (0.25 if config.gated else 0.5), (2 / (e + w)) ** 0.5
        self.up = nn.Parameter(_uniform(up_std, h, n, e * (1 + config.gated)))
        self.down = nn.Parameter(_uniform(down_std, h, e, w))
        if config.normalise_memory:
            self.up_gain = nn.Parameter(torch.full((h, self.up.shape[2]), up_std))
            self.down_gain = nn.Parameter(torch.full((h, w), down_std))
        self.rule = Rule(config.chunk_tokens, Shape(config.gated, n == w, config.objective))
        self.norm = RmsNorm(w) if config.normalise_read else nn.Identity()
        if config.output_gate:
            self.output_gate = nn.Linear(d_model, h * w, bias=False)
        self.out = nn.Linear(h * w, d_model, bias=False)
        self.form = FORMS[config.granularity]
        self.scan = Scan(self.form)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def init_state(self, batch: int) -> OmegaMlpState:
        """The trained networks as a chunk begins with them, no momentum, no recent tokens."""
        wide, h = at_least_float32(self.up.dtype), self.config.n_heads
        network = Network(*(w.to(wide).expand(batch, -1, -1, -1) for w in (self.up, self.down)))
        empty = partial(empty_state, self.up, batch)
        network = network if (gains := self._gains()) is None else normalise_weights(network, gains)
        momentum = (torch.zeros_like(w) if self.config.momentum else w.new_zeros(batch, h, 0, 0) for w in network)
        position = torch.zeros((), dtype=torch.int64, device=self.up.device)
        tail = self.convolution.init_tail(batch)
        if self.config.granularity == "chunk":
            logits = (empty(h, present) for present in (self.config.retains, self.config.momentum))
            running, downhill = Network(*(w.clone() for w in network)), Network(*(torch.zeros_like(w) for w in network))
            memory = ChunkMemory(running, downhill, Network(*momentum), *logits)
            return OmegaMlpState(memory, position, tail)
        n_recent = self.config.window - 1
        recent = Recent(
            empty(n_recent, h, self.up.shape[1]),
            empty(n_recent, h, self.head_width),
            empty(n_recent, h),
        )
        started, running = (Network(*(w.clone() for w in network)) for _ in range(2))
        return OmegaMlpState(NetworkMemory(started, running, Network(*momentum), recent), position, tail)

    def step(self, x: Float[Tensor, "b d"], state: OmegaMlpState) -> tuple[Float[Tensor, "b d"], OmegaMlpState]:
        """Begin a chunk if the last is full; descend, carry on, retain; read: one token."""
        x = x.unsqueeze(1)
        q, write, tail = self._inputs(x, state.tail)
        memory, position = state.memory, state.position
        if int(position) == self.rule.chunk_tokens:
            memory, position = self.form.begin_chunk(memory, self._gains()), torch.zeros_like(position)
        memory = self.form.step(memory, write, self.rule)
        if self.state.observed:
            packed = self.state(_packed(memory.running).unsqueeze(1)).squeeze(1)
            memory = memory._replace(running=self._unpacked(packed))
        read = read_network(memory.running, q, self.rule.shape)
        return self._contribute(x, read).squeeze(1), OmegaMlpState(memory, position + 1, tail)

    def forward(
        self, x: Float[Tensor, "b t d"], state: OmegaMlpState | None = None
    ) -> tuple[Float[Tensor, "b t d"], OmegaMlpState]:
        """All tokens in chunks; the networks of single tokens are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the network that was written. In `step` the replacement carries on.
        """
        # A fresh state is known to stand at 0 without looking, which keeps this path free of branches on data.
        position, state = (0, self.init_state(x.shape[0])) if state is None else (int(state.position), state)
        q, writes, tail = self._inputs(x, state.tail)
        if self.state.observed:
            read, memory = self._read_observed(q, writes, state.memory, position)
        else:
            read, memory = self.scan(q, writes, state.memory, self.rule, position, self._gains())
        seen = (position + x.shape[1] - 1) % self.rule.chunk_tokens + 1
        return self._contribute(x, read), OmegaMlpState(memory, torch.full_like(state.position, seen), tail)

    def get_extra_state(self) -> Tensor:
        """The chunk's length and whether it is written as one, which weights cannot show; else another model's."""
        return torch.tensor([self.config.chunk_tokens, self.config.granularity == "chunk"])

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse weights that were trained with chunks of another length or granularity."""
        # Weights from before there was a granularity carry the length alone.
        chunk_tokens, per_chunk, *_ = *state.flatten().tolist(), 0
        for name, trained in (("chunk_tokens", chunk_tokens), ("granularity", "chunk" if per_chunk else "token")):
            configured = getattr(self.config, name)
            require(
                trained == configured,
                f"omega_mlp.{name} of the weights",
                f"{configured}, that of the configuration they are loaded into",
                trained,
                f"build the memory with {name}={trained}, or train again",
            )

    def init_recall(self, batch: int) -> Float[Tensor, "b tail hk"]:
        """The inputs of the queries' convolution before the first token: zeros."""
        return self.convolution.init_tail(batch)[..., : self.config.n_heads * self.head_width].clone()

    def recall(
        self, x: Float[Tensor, "b t d"], state: OmegaMlpState, tail: Float[Tensor, "b tail hk"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b tail hk"]]:
        """What the networks answer to the tokens' queries, through norm, gate and projection; nothing is written."""
        q, tail = asked(x, self.qkv, self.convolution, tail, self.config.n_heads)
        q = self.features(F.normalize(q, dim=-1) if self.config.normalise_qk else q)
        return self._project(x, read_network(state.memory.running, q, self.rule.shape).to(x.dtype)), tail

    def _inputs(
        self, x: Float[Tensor, "b t d"], tail: Tensor
    ) -> tuple[Float[Tensor, "b t h k"], Writes | ChunkWrites, Tensor]:
        mixed, tail = self.convolution(self.qkv(x), tail)
        q, k, v = rearrange(F.silu(mixed), "b t (three h k) -> three b t h k", three=3, h=self.config.n_heads)
        if self.config.normalise_qk:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        if self.config.granularity == "chunk":
            # The gates of a chunk are those of its mean logits: their values at single tokens are of no use.
            gates = self.gates.step_size, self.gates.retention, self.gates.momentum
            step_size, *logits = (None if gate is None else _wide(gate(x)) for gate in gates)
            writes = ChunkWrites(self.features(k), v, cast(Tensor, step_size).sigmoid(), *logits)
        else:
            writes = Writes(self.features(k), v, *self.gates(x))
        return self.features(q), writes.detached() if self.config.detach_write else writes, tail

    def _gains(self) -> Gains | None:
        return Gains(self.up_gain, self.down_gain) if self.config.normalise_memory else None

    def _read_observed(
        self,
        q: Float[Tensor, "b t h k"],
        writes: Writes | ChunkWrites,
        memory: NetworkMemory | ChunkMemory,
        position: int,
    ) -> tuple[Float[Tensor, "b t h v"], NetworkMemory | ChunkMemory]:
        formed = []
        for t in range(q.shape[1]):
            if position == self.rule.chunk_tokens:
                memory, position = self.form.begin_chunk(memory, self._gains()), 0
            memory, position = self.form.step(memory, writes.at(slice(t, t + 1)), self.rule), position + 1
            formed.append(_packed(memory.running))
        states = self.state(torch.stack(formed, dim=1))
        networks = self._unpacked(states.flatten(0, 1))
        read = rearrange(
            read_network(networks, q.flatten(0, 1).unsqueeze(1), self.rule.shape),
            "(b t) 1 h v -> b t h v",
            b=q.shape[0],
        )
        return read, memory._replace(running=self._unpacked(states[:, -1]))

    def _unpacked(self, packed: Float[Tensor, "b h weights"]) -> Network:
        layers = packed.split([self.up[0].numel(), self.down[0].numel()], dim=-1)
        return Network(
            *(w.unflatten(-1, like.shape[1:]).clone() for w, like in zip(layers, (self.up, self.down), strict=True))
        )

    def _contribute(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        return self.contribution(self._project(x, self.read(read.to(x.dtype))))

    def _project(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        read = rearrange(self.norm(read), "b t h v -> b t (h v)")
        if self.config.output_gate:
            read = read * F.silu(self.output_gate(x))
        return self.out(read)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Networks, momentum, logits or recent tokens, the tail and the position: the same for any number."""
        h, w, n = self.config.n_heads, self.head_width, self.up.shape[1]
        networks = (2 + self.config.momentum) * (self.up.numel() + self.down.numel())
        logits = h * (self.config.retains + self.config.momentum) * (self.config.granularity == "chunk")
        recent = (self.config.window - 1) * h * (n + w + 1)
        tail = max(self.config.convolution - 1, 0) * 3 * h * w
        carried = batch * (networks + logits + recent)
        return state_bytes(self.up, carried=carried, shown=batch * tail) + 8

    def recall_flops(self, batch: int, tokens: int) -> int:
        """The query's, the gate's and the output's projections, the feature map, and the network."""
        h, w, d = self.config.n_heads, self.head_width, self.d_model
        network = self.up[0].numel() + self.down[0].numel()
        a_head = w * d * (2 + self.config.output_gate) + self.features.products + network
        return 2 * batch * tokens * h * a_head

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, features, and the products of every chunk."""
        h, w, d = self.config.n_heads, self.head_width, self.d_model
        projected = d * ((4 + self.config.output_gate) * h * w + self.gates.n_outputs)
        shared = tokens * (projected + 2 * h * self.features.products)
        if self.config.granularity == "chunk":
            return 2 * batch * (shared + h * self._products_per_chunk(tokens))
        sizes = chunk_sizes(tokens, 0, self.rule.chunk_tokens)
        return 2 * batch * (shared + h * sum(n_chunks * self._chunk_products(c) for n_chunks, c in sizes))

    def _products_per_chunk(self, tokens: int) -> int:
        """Multiply-adds of one head written per chunk."""
        up, down = self.up[0].numel(), self.down[0].numel()
        # The last chunk stays open; of a single token its gradient is no matrix product.
        lone = (tokens - 1) % self.rule.chunk_tokens == 0
        return tokens * (3 * up + (4 if self.config.objective == "delta" else 3) * down) - lone * (up + down)

    def _chunk_products(self, c: int) -> int:
        """Multiply-adds of one head in a chunk of c tokens."""
        (_, k, u), (_, e, v) = self.up.shape, self.down.shape
        x, orders = c + self.config.window - 1, 1 + self.config.momentum
        gates = c * c * (c + 1) + (c + 1) * c * x if self.config.momentum else c * c * x
        gradients = x * (k * u + e * v * (2 if self.config.objective == "delta" else 1))
        reads = c * x * (k + u + e + v) + orders * c * (k * u + e * v)
        return gates + gradients + reads + orders * (orders + x) * (k * u + e * v)


def _uniform(std: float, *shape: int) -> Tensor:
    return torch.empty(shape).uniform_(-(3**0.5) * std, 3**0.5 * std)


def _wide(logits: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h"]:
    return logits if logits.dtype == torch.float64 else logits.float()


def _packed(network: Network) -> Float[Tensor, "b h weights"]:
    return torch.cat([layer.flatten(2) for layer in network], dim=-1)
