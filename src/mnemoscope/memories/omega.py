"""Omega memory: a matrix per head that descends, at test time, the error on the last tokens, with momentum.

    L_t(M) = sum_{t-c < i <= t} gamma_i |phi(k_i) M - v_i|^2          the squared error ("delta"), or -phi(k_i) M v_i^T
    S_t = theta_t S_{t-1} - eta_t grad L_t(M*)                        M* = M at the start of t's chunk
    M_t = alpha_t M_{t-1} + S_t                                       r_t = phi(q_t) M_t

    q, k = l2(silu(conv(W x)))     v = silu(conv(W_v x))     alpha, theta, eta, gamma = sigmoid(W x + bias)
    y_t = W_o (rms(r_t) * silu(W_g x_t))

alpha is the retention, theta the momentum, eta the step size, gamma the window weight, c the window. With window 1 and
plain keys it is Titans with a matrix; without momentum the gated delta rule of strength 2 eta; with every feature of
exp and the inner product as objective, softmax attention without its normaliser. `orthogonalise` gives Atlas: every
`update_every` tokens M_t = alpha_t M_{t-1} + eta_t sqrt(max(1, D / V)) NS(S_t), and M_t = alpha_t M_{t-1} between.

With granularity "chunk", momentum and retention act once per chunk, and M changes at the chunk's last token only, the
first to read the change; the logits of alpha and theta are means over the chunk. That is a third of the work.

    S_j = theta_j S_{j-1} - sum_{i in chunk j} eta_i grad l_i(M)      M <- alpha_j M + S_j              r_t = phi(q_t) M

The chunk is part of the model: weights trained at one chunk size are worse at another, and a state dict says which.

Why: the memory is trained at test time on a window of tokens rather than on the last alone, which fits them jointly.

Known limits: gradients are taken at the memory as the chunk found it, so the chunk is part of the model. Tokens of one
key step as far as all of them together: a chunk whose 2 eta add up to more than 2 along a key drives a memory that is
not empty away from what it should hold, and further in every chunk. An episode of a few chunks bears that, a memory
that is carried on overflows (`default_step_size` stays below). Cost grows with window and features.

Source: Behrouz et al. 2025, "ATLAS" (arXiv 2505.23735), equations 9 to 11, 32 and 33; Titans (arXiv 2501.00663),
section 3.2.
Differs: a token weighs the same, gamma_i, in every window it stands in (the source leaves open how gamma depends on
the end of the window); the signs are those of the gradient (the source prints equations 11 and 32 with others); the
orthogonalised update has the step size and a scale outside, since Newton-Schulz removes what is inside.
"""

from functools import partial
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.contracts import ReadPoint, Role
from mnemoscope.memories.feature_maps import FeatureMap
from mnemoscope.memories.gates import Gates, GateStarts
from mnemoscope.memories.omega_config import INITIAL_WINDOW_WEIGHT, OmegaConfig
from mnemoscope.memories.parts import RmsNorm, ShortConvolution, asked, empty_state, require, state_bytes
from mnemoscope.ops.omega import (
    Rule,
    Store,
    Writes,
    anchored,
    omega_states,
    omega_step,
)
from mnemoscope.ops.omega_chunked import omega_chunked, omega_products
from mnemoscope.ops.omega_per_chunk import (
    PerChunkStore,
    PerChunkWrites,
    omega_per_chunk,
    omega_per_chunk_products,
    per_chunk_states,
    per_chunk_step,
)
from mnemoscope.ops.precision import read_states

AnyStore = Store | PerChunkStore
AnyWrites = Writes | PerChunkWrites


class OmegaState(NamedTuple):
    """Matrices, the window's last c - 1 tokens, the place in the chunk, and the convolution's last inputs."""

    store: AnyStore
    k: Float[Tensor, "b s h k"]
    v: Float[Tensor, "b s h v"]
    window_weight: Float[Tensor, "b s h"]
    position: Int[Tensor, ""]
    tail: Float[Tensor, "b tail d3"]


class Scan(nn.Module):
    """The reads of all tokens; a module of its own, so that a replay can answer it from the record."""

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule

    def forward(
        self, q: Float[Tensor, "b t h k"], writes: AnyWrites, store: AnyStore | None, position: int
    ) -> tuple[Float[Tensor, "b t h v"], AnyStore]:
        """Chunked form."""
        if isinstance(writes, PerChunkWrites):
            assert not isinstance(store, Store)
            return omega_per_chunk(q, writes, store, self.rule, position)
        assert not isinstance(store, PerChunkStore)
        return omega_chunked(q, writes, store, self.rule, position)


class Omega(nn.Module):
    """Omega memory. Read points: `read` (b t h v), `contribution` (b t d), `state` (b t h D v), the matrices M_t."""

    role: Role = "memory"

    def __init__(self, config: OmegaConfig, d_model: int) -> None:
        super().__init__()
        h = config.n_heads
        require(
            config.head_width is not None or d_model % h == 0,
            "omega: d_model",
            f"a multiple of n_heads={h} unless head_width is given",
            d_model,
            "change either, or give head_width",
        )
        self.config, self.d_model, self.rule = config, d_model, config.rule
        self.per_chunk = config.granularity == "chunk"
        self.head_width = config.head_width or d_model // h
        width = h * self.head_width
        self.qkv = nn.Linear(d_model, 3 * width, bias=False)
        self.convolution = ShortConvolution(3 * width, config.convolution)
        self.features = FeatureMap(config.feature_options, self.head_width)
        starts = GateStarts(
            step_size=config.initial_step_size or config.default_step_size,
            retention=config.initial_retention if config.retains else None,
            momentum=config.initial_momentum if config.momentum else None,
            window_weight=INITIAL_WINDOW_WEIGHT if config.gated_window else None,
        )
        self.gates = Gates(starts, d_model, h)
        self.norm = RmsNorm(self.head_width) if config.normalise_read else nn.Identity()
        if config.output_gate:
            self.output_gate = nn.Linear(d_model, width, bias=False)
        self.out = nn.Linear(width, d_model, bias=False)
        self.scan = Scan(config.rule)
        self.state = ReadPoint()
        self.read = ReadPoint()
        self.contribution = ReadPoint()

    def get_extra_state(self) -> Int[Tensor, "n"]:
        """The chunk, which weights cannot show and without which they are another model's; a third number, 1, is said
        where granularity="chunk".
        """
        return torch.tensor([self.config.chunk_tokens, self.config.update_every, *([1] * self.per_chunk)])

    def set_extra_state(self, state: Int[Tensor, "n"]) -> None:
        """Refuse weights of another chunk size."""
        saved = [*state[:2].tolist(), "chunk" if len(state) > 2 else "token"]
        for name, got in zip(("chunk_tokens", "update_every", "granularity"), saved, strict=True):
            ours = getattr(self.config, name)
            require(
                got == ours,
                f"omega.{name} of the weights",
                f"{ours}, that of the configuration they are loaded into",
                got,
                f"build the memory with {name}={got}, or train again",
            )

    def init_state(self, batch: int) -> OmegaState:
        """An empty memory, with an empty window, at the start of a chunk."""
        h, w, past = self.config.n_heads, self.head_width, self.config.window - 1
        zeros, n_features = self.out.weight.new_zeros, self.features.n_features
        carried = partial(empty_state, self.out.weight, batch)
        matrices = [carried(h, n, w) for n in (n_features, n_features, n_features * self.config.momentum)]
        store = Store(*matrices)
        if self.per_chunk:
            memory, descent, surprise = matrices
            store = PerChunkStore(memory, surprise, descent, carried(self._n_pooled, h))
        return OmegaState(
            store,
            zeros(batch, past, h, w),
            zeros(batch, past, h, w),
            zeros(batch, past, h),
            torch.zeros((), dtype=torch.int64, device=self.out.weight.device),
            self.convolution.init_tail(batch),
        )

    def step(self, x: Float[Tensor, "b d"], state: OmegaState) -> tuple[Float[Tensor, "b d"], OmegaState]:
        """Descend on the window, retain, write, read: one token, in constant time and memory."""
        x = x.unsqueeze(1)
        q, write, after = self._inputs(x, state)
        store = _step(write, state.store, self.rule, state.position)
        position = (state.position + 1) % self.config.chunk_tokens
        if self.state.observed:
            memory = self.state(store.memory.unsqueeze(1)).squeeze(1)
            store = _replaced(store, memory, position)
        read = read_states("bthk,bhkv->bthv", q, store.memory)
        return self._contribute(x, read).squeeze(1), after._replace(store=store, position=position)

    def forward(
        self, x: Float[Tensor, "b t d"], state: OmegaState | None = None
    ) -> tuple[Float[Tensor, "b t d"], OmegaState]:
        """All tokens at once in chunks; the matrices after every token are formed only if `state` is observed.

        What replaces an observed state is read at its own token and, if it is the last, returned; later tokens go on
        from the state that was written. In `step` the replacement carries on.
        """
        # An empty memory starts at a chunk, and so needs no look at a tensor.
        store, place = (None, 0) if state is None else (state.store, int(state.position))
        state = state or self.init_state(x.shape[0])
        q, writes, after = self._inputs(x, state)
        position = torch.full_like(state.position, (place + x.shape[1]) % self.config.chunk_tokens)
        if self.state.observed:
            states, last = _states(writes, state.store, self.rule, state.position)
            states = self.state(states)
            read, memory = read_states("bthk,bthkv->bthv", q, states), states[:, -1].clone()
            last = _replaced(last, memory, position)
        else:
            read, last = self.scan(q, writes, store, place)
        return self._contribute(x, read), after._replace(store=last, position=position)

    def init_recall(self, batch: int) -> Float[Tensor, "b tail hk"]:
        """The inputs of the queries' convolution before the first token: zeros."""
        return self.convolution.init_tail(batch)[..., : self.config.n_heads * self.head_width].clone()

    def recall(
        self, x: Float[Tensor, "b t d"], state: OmegaState, tail: Float[Tensor, "b tail hk"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b tail hk"]]:
        """What the matrix holds for the tokens' queries, through norm, gate and projection; nothing is written."""
        q, tail = asked(x, self.qkv, self.convolution, tail, self.config.n_heads)
        q = self.features(F.normalize(q, dim=-1) if self.config.normalise_qk else q)
        return self._project(x, read_states("bthk,bhkv->bthv", q, state.store.memory)), tail

    def _inputs(
        self, x: Float[Tensor, "b t d"], state: OmegaState
    ) -> tuple[Float[Tensor, "b t h k"], AnyWrites, OmegaState]:
        """Features of the queries, what is written, and the state but for its matrices and place."""
        mixed, tail = self.convolution(self.qkv(x), state.tail)
        q, k, v = rearrange(F.silu(mixed), "b t (three h k) -> three b t h k", three=3, h=self.config.n_heads)
        if self.config.normalise_qk:
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        if self.per_chunk:
            return self._per_chunk_inputs(q, k, v, x, state, tail)
        gates = self.gates(x)
        if self.config.detach_write:
            k, v = k.detach(), v.detach()
            gates = type(gates)(*(None if gate is None else gate.detach() for gate in gates))
        weight = gates.window_weight
        if self.config.window > 1:
            k, v = torch.cat([state.k, k], dim=1), torch.cat([state.v, v], dim=1)
            weight = torch.cat([state.window_weight.to(weight), weight], dim=1)
        wide = weight.dtype
        writes = Writes(
            self.features(k.to(wide)), v.to(wide), weight, gates.step_size, gates.log_retention, gates.log_momentum
        )
        kept = slice(k.shape[1] - self.config.window + 1, None)
        after = OmegaState(
            state.store, k[:, kept].clone(), v[:, kept].clone(), weight[:, kept].to(k, copy=True), state.position, tail
        )
        return self.features(q.to(wide)), writes, after

    def _per_chunk_inputs(
        self,
        q: Float[Tensor, "b t h w"],
        k: Float[Tensor, "b t h w"],
        v: Float[Tensor, "b t h v"],
        x: Float[Tensor, "b t d"],
        state: OmegaState,
        tail: Float[Tensor, "b tail d3"],
    ) -> tuple[Float[Tensor, "b t h k"], PerChunkWrites, OmegaState]:
        """The same with the logits of the gates that a chunk has once."""
        wide = torch.promote_types(x.dtype, torch.float32)
        logits = [head(x).to(wide) for head in (self.gates.retention, self.gates.momentum) if head is not None]
        pooled = torch.stack(logits, dim=2) if logits else q.new_zeros(*q.shape[:2], 0, q.shape[2], dtype=wide)
        written = (k.to(wide), v.to(wide), self.gates.step_size(x).to(wide).sigmoid(), pooled)
        if self.config.detach_write:
            k, v, step_size, pooled = (part.detach() for part in written)
        else:
            k, v, step_size, pooled = written
        writes = PerChunkWrites(self.features(k), v, step_size, pooled, self.config.retains, self.config.momentum)
        return self.features(q.to(wide)), writes, state._replace(tail=tail)

    @property
    def _n_pooled(self) -> int:
        return self.config.retains + self.config.momentum

    def _contribute(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        return self.contribution(self._project(x, self.read(read.to(x))))

    def _project(self, x: Float[Tensor, "b t d"], read: Float[Tensor, "b t h v"]) -> Float[Tensor, "b t d"]:
        read = rearrange(self.norm(read), "b t h v -> b t (h v)")
        if self.config.output_gate:
            read = read * F.silu(self.output_gate(x))
        return self.out(read)

    def state_bytes(self, batch: int = 1, tokens: int = 0) -> int:
        """Matrices, window, convolution's tail and place in the chunk: the same for any number of tokens."""
        h, w, past = self.config.n_heads, self.head_width, self.config.window - 1
        matrices = (2 + self.config.momentum) * self.features.n_features * w
        tail = 3 * w * max(self.config.convolution - 1, 0)
        pooled = self._n_pooled * self.per_chunk
        carried, shown = (batch * h * n for n in (matrices + pooled, past * (2 * w + 1) + tail))
        return state_bytes(self.out.weight, carried=carried, shown=shown) + 8

    def recall_flops(self, batch: int, tokens: int) -> int:
        """The query's, the gate's and the output's projections, the sketch, and one product with the matrix."""
        h, w, d = self.config.n_heads, self.head_width, self.d_model
        a_head = w * d * (2 + self.config.output_gate) + self.features.products + self.features.n_features * w
        return 2 * batch * tokens * h * a_head

    def flops(self, batch: int, tokens: int) -> int:
        """Projections, sketches, and the products of the chunked form; its triangular solves are none."""
        h, w, d = self.config.n_heads, self.head_width, self.d_model
        projected = tokens * d * (4 * h * w + self.gates.n_outputs + h * w * self.config.output_gate)
        mapped = h * (2 * tokens + self.config.window - 1) * self.features.products
        if self.per_chunk:
            scanned = h * omega_per_chunk_products(tokens, self.features.n_features, w, self.rule)
        else:
            scanned = h * omega_products(tokens, self.features.n_features, w, self.rule, self.config.momentum)
        return 2 * batch * (projected + mapped + scanned)


def _step(write: AnyWrites, store: AnyStore, rule: Rule, position: Int[Tensor, ""]) -> AnyStore:
    if isinstance(write, PerChunkWrites):
        assert isinstance(store, PerChunkStore)
        return per_chunk_step(write, store, rule, position)
    assert isinstance(store, Store)
    return omega_step(write, store, rule, position)


def _states(
    writes: AnyWrites, store: AnyStore, rule: Rule, position: Int[Tensor, ""]
) -> tuple[Float[Tensor, "b t h k v"], AnyStore]:
    if isinstance(writes, PerChunkWrites):
        assert isinstance(store, PerChunkStore)
        return per_chunk_states(writes, store, rule, position)
    assert isinstance(store, Store)
    return omega_states(writes, store, rule, position)


def _replaced(store: AnyStore, memory: Float[Tensor, "b h k v"], position: Int[Tensor, ""]) -> AnyStore:
    """The memory replaced, and with it, where a chunk starts, what its gradients are taken at."""
    if isinstance(store, PerChunkStore):
        return store._replace(memory=memory)
    return store._replace(anchor=anchored(store.anchor, memory, position), memory=memory)
